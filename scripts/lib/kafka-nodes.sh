# shellcheck shell=bash
# What scripts/kafka runs: the jars of a version, the configuration of its nodes, their JVMs. Sourced by it; uses its
# variables VERSION, BROKERS, CONFIG, STATE and DATA, and its functions.

# Every broker's listeners, NAME:PROTOCOL. The other brokers, clients (KAFKA_BOOTSTRAP) and this script itself, which
# speaks plain text, use the first. To add one: name it here, and put its own settings into `listener_settings`.
LISTENERS=(PLAINTEXT:PLAINTEXT) # with --secure: those of kafka-security.sh too; with --proxied: those too
readonly FIRST_LISTENER=PLAINTEXT

listener_settings() { # LISTENER: e.g. its key store, its SASL mechanisms
  case $1 in
    PLAINTEXT) ;;
    *) [[ -n $(proxy_port 1 "$1") ]] || secure_listener_settings "$1" ;;
  esac
}

# The port on which a broker advertises a listener of --proxied; nothing for another.
proxy_port() { # ID LISTENER
  local entry ports
  # shellcheck disable=SC2153 # the script's, from its options
  for entry in "${PROXIED[@]}"; do
    [[ ${entry%%=*} != "$2" ]] || IFS=, read -ra ports <<<"${entry#*=}"
  done
  echo "${ports[$1 - 1]:-}"
}

# ---- Versions and jars -----------------------------------------------------------------------------------------------

readonly KNOWN="4.3.1, 4.4.0, 3.9.2 and 2.8.2 are known to work"

check_version() { [[ $1 =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "'$1' is not a version of Kafka: $KNOWN"; }

# shellcheck disable=SC2153 # VERSION is the cluster's
with_zookeeper() { [[ $(printf '%s\n' 3.3.0 "$VERSION" | sort -V | head -n 1) != 3.3.0 ]]; } # KRaft was a preview

need() { # COMMAND REMEDY
  command -v "$1" >/dev/null || die "$1 is missing: $2"
}

need_java() {
  need "$JAVA" "install Java 17 or newer (Debian: openjdk-17-jre-headless), or set JAVA_HOME"
  JAVA_ID=$("$JAVA" -XX:-UsePerfData -version 2>&1) || die "$JAVA does not run: $JAVA_ID"
  [[ $JAVA_ID =~ version\ \"([0-9]+) ]] || die "cannot tell the version of $JAVA: $JAVA_ID"
  ((BASH_REMATCH[1] >= 17)) || die "$JAVA is version ${BASH_REMATCH[1]}: install Java 17 or newer, or set JAVA_HOME"
}

# A broker needs kafka_2.13 only, without kafka-tools-api, which 4.4.0 names and was released without. One slf4j
# binding, which needs no configuration file, takes the place of those that older versions bring.
pom() { # VERSION
  local tools=
  if [[ $1 == "$DEFAULT_VERSION" ]]; then
    tools="<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$1</version>"
    tools+="</dependency>"
  fi
  cat <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>milena</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$1</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion>
        <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>
        <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-log4j12</artifactId></exclusion>
      </exclusions>
    </dependency>
    $tools
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
}

# The jars of a version into the cache, whole or not at all. There is one lock for all versions, as they share Maven's
# local repository; the subshell that holds it ends its work even when the script is killed.
fetch() { # VERSION
  local version=$1
  check_version "$version"
  [[ ! -e $CACHE/$version/complete ]] || return 0
  need mvn "install Maven (Debian: maven), which downloads the jars of Kafka"
  mkdir -p "$CACHE"
  (
    flock 9
    [[ ! -e $CACHE/$version/complete ]] || exit 0
    say "downloading the jars of Kafka $version to $CACHE"
    rm -rf "$CACHE"/.download.* # of one that was killed: nobody else is downloading now
    folder=$(mktemp -d "$CACHE/.download.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 1' INT TERM HUP
    pom "$version" >"$folder/pom.xml"
    if ! timeout --foreground 900 mvn -B -q -U -f "$folder/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$folder/jars" >"$folder/mvn.log" 2>&1 </dev/null; then
      if grep -q "Could not find artifact org.apache.kafka:kafka_2.13:jar:$version " "$folder/mvn.log"; then
        die "Maven's repositories have no Kafka $version: $KNOWN"
      fi
      head -n 3 "$folder/mvn.log" >&2
      die "Maven could not download Kafka $version, see above: check the network, ~/.m2/settings.xml (proxy, mirror)" \
        "and the space on the disk, then try again"
    fi
    touch "$folder/complete"
    rm -rf "${CACHE:?}/$version"
    mv -T "$folder" "$CACHE/$version"
  ) 9>"$CACHE/.lock"
}

class_path() { # VERSION
  local jars=("$CACHE/$1/jars/"*.jar)
  local IFS=:
  echo "${jars[*]}"
}

# A broker's classes in the form that a JVM maps into its memory, which saves a third of a broker's start, half of its
# processor time and 50 MB of each. A broker writes it when it ends: one is run for that, once for a version and a JVM.
# Without the archive everything works as well, only slower.
archive_classes() {
  ARCHIVE=$CACHE/$VERSION/classes-$(cksum <<<"$JAVA_ID" | cut -d ' ' -f 1).jsa
  [[ ! -e $ARCHIVE && -w $CACHE/$VERSION && -z ${MILENA_KAFKA_ARCHIVE_TO:-} ]] || return 0
  (
    flock 9
    [[ ! -e $ARCHIVE ]] || exit 0
    say "preparing Kafka $VERSION for quick starts, once"
    rm -f "$CACHE/$VERSION"/*.jsa*
    owner=$BASHPID
    cluster=$(MILENA_KAFKA_JVM='' MILENA_KAFKA_ARCHIVE_TO=$ARCHIVE.new "$SELF" start --version "$VERSION" \
      --owner "$owner" --timeout "$TIMEOUT" | sed -n 's/^KAFKA_NAME=//p') || exit 0
    "$SELF" kill "$cluster" 1 TERM || exit 0
    open_cluster "$cluster"
    for _ in {1..300}; do
      [[ -n $(jvm_of "$DATA/1") ]] || break
      sleep 0.1
    done
    "$SELF" stop "$cluster"
    touch "$ARCHIVE.new" # an empty one is no archive, and keeps the next start from trying again
    mv "$ARCHIVE.new" "$ARCHIVE"
  ) 9>"$CACHE/.lock"
}

# ---- Configuration ---------------------------------------------------------------------------------------------------

listeners() { # ID
  local entry urls='' advertised='' map='' controller='' port proxied
  for entry in "${LISTENERS[@]}"; do
    port=$(port_of "$1" "${entry%%:*}")
    proxied=$(proxy_port "$1" "${entry%%:*}")
    urls+=",${entry%%:*}://127.0.0.1:$port"
    advertised+=",${entry%%:*}://127.0.0.1:${proxied:-$port}"
    map+=",$entry"
    listener_settings "${entry%%:*}"
  done
  with_zookeeper || controller=",CONTROLLER://127.0.0.1:$(port_of "$1" CONTROLLER)"
  echo "listeners=${urls#,}$controller"
  echo "advertised.listeners=${advertised#,}"
  echo "listener.security.protocol.map=CONTROLLER:PLAINTEXT$map"
  echo "inter.broker.listener.name=$FIRST_LISTENER"
}

cluster_settings() { # ID: how brokers find each other, and notice within 6 s that one was killed
  local id voters=''
  if with_zookeeper; then
    cat <<PROPERTIES
broker.id=$1
zookeeper.connect=127.0.0.1:$(port_of zookeeper CLIENT)
zookeeper.session.timeout.ms=6000
PROPERTIES
  else
    for ((id = 1; id <= BROKERS; id++)); do voters+=",$id@127.0.0.1:$(port_of "$id" CONTROLLER)"; done
    cat <<PROPERTIES
process.roles=broker,controller
node.id=$1
controller.quorum.voters=${voters#,}
controller.listener.names=CONTROLLER
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
PROPERTIES
  fi
}

# Versions ignore the settings that they do not know. Threads and buffers are few and small because several brokers
# share a machine with the tests: the log cleaner alone would hold 128 MB.
broker_properties() { # ID
  local in_sync=$((BROKERS > 1 ? 2 : 1))
  listeners "$1"
  cluster_settings "$1"
  cat <<PROPERTIES
log.dirs=$DATA/$1/data
broker.rack=rack-$1
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
auto.create.topics.enable=false
delete.topic.enable=true
num.partitions=1
default.replication.factor=$BROKERS
unclean.leader.election.enable=false
auto.leader.rebalance.enable=false
log.retention.ms=-1
log.retention.bytes=-1
offsets.topic.num.partitions=3
offsets.topic.replication.factor=$BROKERS
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=$BROKERS
transaction.state.log.min.isr=$in_sync
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.num.partitions=3
share.coordinator.state.topic.replication.factor=$BROKERS
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=10000
group.share.min.heartbeat.interval.ms=100
group.share.heartbeat.interval.ms=1000
group.share.min.session.timeout.ms=1000
group.share.session.timeout.ms=10000
controlled.shutdown.max.retries=1
controlled.shutdown.retry.backoff.ms=500
num.network.threads=2
num.io.threads=4
background.threads=2
num.replica.fetchers=1
num.recovery.threads.per.data.dir=1
group.coordinator.threads=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
PROPERTIES
  [[ -z $SECURE ]] || authorizer_settings
  if ((${#CONFIG[@]})); then printf '%s\n' "${CONFIG[@]}"; fi # the last line of a name counts
}

zookeeper_properties() {
  cat <<PROPERTIES
clientPort=$(port_of zookeeper CLIENT)
clientPortAddress=127.0.0.1
dataDir=$DATA/zookeeper/data
tickTime=2000
maxClientCnxns=0
admin.enableServer=false
PROPERTIES
}

# ---- JVMs ------------------------------------------------------------------------------------------------------------

# For every JVM. -UsePerfData: a JVM that is killed would leave its file of counters in /tmp.
readonly JVM_FLAGS=(-XX:+UseSerialGC -XX:-UsePerfData -Djava.awt.headless=true
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true
  -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS)

# The flags of a node, into NODE_FLAGS. Native libraries are unpacked into its own folder, which is removed.
node_flags() { # ID
  NODE_FLAGS=("$(tag "$DATA/$1")" "${JVM_FLAGS[@]}" -Djava.io.tmpdir="$DATA/$1/tmp" -XX:ErrorFile="$DATA/$1/jvm-error"
    -XX:+ExitOnOutOfMemoryError)
  if [[ -n ${MILENA_KAFKA_ARCHIVE_TO:-} ]]; then
    NODE_FLAGS+=(-XX:ArchiveClassesAtExit="$MILENA_KAFKA_ARCHIVE_TO")
  elif [[ -s $ARCHIVE && $1 != zookeeper ]]; then
    NODE_FLAGS+=(-XX:SharedArchiveFile="$ARCHIVE")
  fi
  NODE_FLAGS+=(-cp "$(class_path "$VERSION")")
}

# Folders with configuration and, for KRaft, formatted storage. Kafka's tool, which takes a JVM, formats the first: the
# others differ in their id, and give themselves the random id of their folder.
make_nodes() {
  local id
  SCRAM_ARGUMENTS=()
  if [[ -n $SECURE ]]; then
    make_certificates
    scram_arguments
  fi
  for ((id = 1; id <= BROKERS; id++)); do
    mkdir -p "$DATA/$id/tmp"
    broker_properties "$id" >"$DATA/$id/properties"
  done
  if with_zookeeper; then
    mkdir -p "$DATA/zookeeper/tmp"
    zookeeper_properties >"$DATA/zookeeper/properties"
    return
  fi
  MILENA_KAFKA_ARCHIVE_TO='' node_flags 1
  timeout "$TIMEOUT" "$JAVA" "${NODE_FLAGS[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format \
    -t "$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | head -c 22)" -c "$DATA/1/properties" \
    "${SCRAM_ARGUMENTS[@]}" >>"$DATA/1/log" 2>&1 </dev/null || node_died 1
  for ((id = 2; id <= BROKERS; id++)); do
    cp -r "$DATA/1/data" "$DATA/$id/data"
    sed -i -e "s/^node.id=.*/node.id=$id/" -e '/^directory.id=/d' "$DATA/$id/data/meta.properties"
  done
}

launch() { # ID
  local main=kafka.Kafka heap=-Xmx320m extra
  if [[ $1 == zookeeper ]]; then
    main=org.apache.zookeeper.server.ZooKeeperServerMain heap=-Xmx96m
  fi
  read -ra extra <<<"${MILENA_KAFKA_JVM:-}"
  node_flags "$1"
  detach "$DATA/$1/log" "$JAVA" "${NODE_FLAGS[@]}" "$heap" "${extra[@]}" "$main" "$DATA/$1/properties"
  while [[ -z $(jvm_of "$DATA/$1") ]] && stat_of $!; do sleep 0.02; done # until it has become java
}

node_died() { # ID: ends the script with what the node said last
  [[ -e $DATA/$1/properties ]] || die "the cluster was stopped meanwhile"
  say "node $1 of Kafka $VERSION died at its start; the end of its log:"
  tail -n 20 "$DATA/$1/log" >&2 || true
  die "check --config, MILENA_KAFKA_JVM, the version of Java and the free memory"
}

state_of() { # ID: alive, stopped (by SIGSTOP), dead
  local pid
  pid=$(jvm_of "$DATA/$1")
  if [[ -z $pid ]] || ! stat_of "$pid"; then
    echo dead
  elif [[ ${STAT[0]} == T ]]; then
    echo stopped
  else
    echo alive
  fi
}

# A look at a process in the middle of an exec shows no command line: only the second one counts.
has_died() { [[ $(state_of "$1") == dead ]] && sleep 0.1 && [[ $(state_of "$1") == dead ]]; } # ID

# The ids of the brokers that a broker sees alive, by a Metadata request (v1, no topics), which every Kafka serves.
# Fails when the broker does not answer. It sees itself from when the controller has let it serve.
seen_by() { # ID
  local reply at=24 count length ids=' '
  reply=$(
    exec 2>/dev/null
    exec 3<>"/dev/tcp/127.0.0.1/$(port_of "$1" "$FIRST_LISTENER")" || exit 1
    printf '\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\0\0\0\0' >&3
    timeout 2 dd bs=65536 count=1 status=none <&3 | od -An -v -tx1 | tr -d ' \n'
  ) || return 1
  ((${#reply} >= at)) || return 1
  for ((count = 16#${reply:16:8}; count > 0; count--)); do # id, host, port, rack; in hexadecimal digits
    ids+="$((16#${reply:at:8})) "
    length=$((16#${reply:at+8:4}))
    at=$((at + 20 + 2 * length))
    length=$((16#${reply:at:4}))
    at=$((at + 4 + (length == 16#ffff ? 0 : 2 * length)))
  done
  echo "$ids"
}

# Waits until every broker of a list answers and sees every other of the list. Status 1: not until DEADLINE. Status 2: a
# node of the list died, its id is in DEAD.
await() { # DEADLINE ID...
  local deadline=$1 id other seen
  shift
  for id; do
    while :; do
      [[ -d $DATA ]] || die "the cluster was stopped meanwhile"
      for DEAD; do has_died "$DEAD" && return 2; done
      [[ $id != zookeeper ]] || break
      if seen=$(seen_by "$id"); then
        for other; do [[ $other == zookeeper || $seen == *" $other "* ]] || seen=; done
        [[ -z $seen ]] || break
      fi
      ((SECONDS < deadline)) || return 1
      sleep 0.2
    done
  done
}
