//! milena. Besides the modes that every peer has, it creates and deletes the topics of `run`.

mod consume;
mod produce;
mod topics;

use common::Args;
use milena::Client;

fn main() {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder(args.bootstrap.split(',')).connect().await.unwrap();
        match args.mode.as_str() {
            "produce" => produce::produce(&client, &args).await,
            "latency" => produce::latency(&client, &args).await,
            "idle-produce" => produce::idle(&client, &args).await,
            "consume" => consume::consume(&client, &args).await,
            "end-to-end" => consume::end_to_end(&client, &args).await,
            "idle-consume" => consume::idle(&client, &args).await,
            "create" => topics::create(&client, &args).await,
            "delete" => topics::delete(&client, &args).await,
            mode => panic!("there is no mode {mode}"),
        }
    });
}
