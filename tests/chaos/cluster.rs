//! The brokers of a run, and what can be done to them: real ones of `scripts/kafka`, or the mock's.

use std::process::Stdio;
use std::time::Duration;

use milena::mock::MockCluster;
use milena::{Client, NewTopic};

pub enum Cluster {
    /// The script of `scripts/kafka run`, and what it calls the cluster.
    Real {
        bootstrap: Vec<String>,
        script: String,
        name: String,
    },
    Mock(MockCluster),
}

impl Cluster {
    pub fn from_environment() -> Result<Self, String> {
        let variable =
            |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: run this by scripts/chaos"));
        let bootstrap: Vec<_> = variable("KAFKA_BOOTSTRAP")?.split(',').map(str::to_owned).collect();
        Ok(Self::Real { bootstrap, script: variable("KAFKA_SCRIPT")?, name: variable("KAFKA_NAME")? })
    }

    pub fn bootstrap(&self) -> Vec<String> {
        match self {
            Self::Real { bootstrap, .. } => bootstrap.clone(),
            Self::Mock(cluster) => cluster.bootstrap(),
        }
    }

    /// SIGKILL.
    pub async fn kill(&self, broker: i32) {
        match self {
            Self::Real { .. } => self.script(&["kill", "NAME", &broker.to_string()]).await,
            Self::Mock(cluster) => cluster.stop_broker(broker).await,
        }
    }

    pub async fn restart(&self, broker: i32) {
        match self {
            Self::Real { .. } => self.script(&["restart", "NAME", &broker.to_string()]).await,
            Self::Mock(cluster) => cluster.start_broker(broker).await,
        }
    }

    /// SIGSTOP: it keeps its connections, and answers nothing.
    pub async fn freeze(&self, broker: i32) {
        match self {
            Self::Real { .. } => self.script(&["kill", "NAME", &broker.to_string(), "STOP"]).await,
            Self::Mock(cluster) => cluster.hang_broker(broker),
        }
    }

    pub async fn thaw(&self, broker: i32) {
        match self {
            Self::Real { .. } => self.script(&["kill", "NAME", &broker.to_string(), "CONT"]).await,
            Self::Mock(cluster) => cluster.resume_broker(broker),
        }
    }

    /// A controlled shutdown: it gives away what it leads.
    pub async fn shut_down(&self, broker: i32) {
        match self {
            Self::Real { script, name, .. } => {
                let broker = broker.to_string();
                self.script(&["kill", "NAME", &broker, "TERM"]).await;
                let is_alive = async || {
                    let mut look = tokio::process::Command::new(script);
                    look.args(["kill", name, &broker, "0"]).stdin(Stdio::null());
                    look.output().await.is_ok_and(|output| output.status.success())
                };
                while is_alive().await {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Self::Mock(cluster) => cluster.shut_down_broker(broker).await,
        }
    }

    async fn script(&self, arguments: &[&str]) {
        let Self::Real { script, name, .. } = self else { return };
        let arguments = arguments.iter().map(|argument| if *argument == "NAME" { name } else { *argument });
        let run = tokio::process::Command::new(script).args(arguments.clone()).stdin(Stdio::null()).output();
        let output = run.await.expect("scripts/kafka can be run");
        let arguments: Vec<_> = arguments.collect();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Three copies of each partition, of which two have to be in sync.
    pub async fn create_topic(&self, client: &Client, topic: NewTopic) {
        let topic = topic.replication_factor(3).config("min.insync.replicas", "2");
        let name = topic.name().to_owned();
        client.admin().create_topics([topic]).await.expect("a topic with three copies");
        self.heal(client, &name, Duration::from_secs(60)).await;
    }

    /// Waits until every copy is in sync.
    pub async fn heal(&self, client: &Client, topic: &str, limit: Duration) -> bool {
        let healing = async {
            loop {
                let described = client.admin().describe_topics([topic]).await;
                let is_whole = described.is_ok_and(|topics| {
                    let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
                    !topics.is_empty() && partitions.all(|p| p.leader.is_some() && p.in_sync.len() == p.replicas.len())
                });
                if is_whole {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(limit, healing).await.is_ok()
    }
}
