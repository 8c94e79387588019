//! Profiles and reports: a service whose responses are kept, and clients that read them without it.
//!
//! The service is in `proto/kvstore_demo/v1/service.proto`, with the buckets and keys of what it
//! keeps; `build.rs` makes the code.
//!
//! ```text
//! cargo run -p proto-first --example profiles      # against a server with JetStream
//! cargo test -p proto-first --example profiles     # in memory
//! ```

#![expect(clippy::print_stdout, reason = "the output is what it is for")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use nats_connector::rpc::{self, Request, Response, RpcError};
use nats_connector::{Connector, shutdown};
use proto_first::proto::kvstore_demo::v1::{
    GenerateReportRequest, GetProfileRequest, KvStoreDemoService, KvStoreDemoServiceClient,
    KvStoreDemoServiceServer, ProfileResponse, ReportResponse, SaveProfileRequest,
};

#[derive(Default)]
struct Profiles(Mutex<HashMap<String, ProfileResponse>>);

impl KvStoreDemoService for Profiles {
    async fn save_profile(
        &self,
        request: Request<SaveProfileRequest>,
    ) -> rpc::Result<Response<ProfileResponse>> {
        let SaveProfileRequest { id, name, email } = request.into_inner();
        let profile = ProfileResponse { id: id.clone(), name, email, updated_at: 1_700_000_000 };
        let mut profiles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        profiles.insert(id, profile.clone());
        Ok(profile.into())
    }

    async fn get_profile(
        &self,
        request: Request<GetProfileRequest>,
    ) -> rpc::Result<Response<ProfileResponse>> {
        let profiles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = profiles.get(&request.get().id).cloned();
        Ok(profile.ok_or_else(|| RpcError::not_found("no such profile"))?.into())
    }

    async fn generate_report(
        &self,
        request: Request<GenerateReportRequest>,
    ) -> rpc::Result<Response<ReportResponse>> {
        let GenerateReportRequest { report_id, title, pages } = request.into_inner();
        let page = format!("{title}\n").repeat(100);
        let content = page.repeat(usize::try_from(pages).unwrap_or_default()).into_bytes();
        Ok(ReportResponse { report_id, content }.into())
    }
}

async fn run(nats: &Connector) -> Result<(), Box<dyn Error>> {
    let rpc = nats.rpc();
    let service = KvStoreDemoServiceServer::new(Profiles::default()).service(&rpc).serve().await?;
    println!("{} serves {} methods", service.name(), service.info().endpoints.len());

    let client = KvStoreDemoServiceClient::new(&rpc);
    let ada = SaveProfileRequest {
        id: "ada".to_owned(),
        name: "Ada".to_owned(),
        email: "ada@example.com".to_owned(),
    };
    let saved = client.save_profile(ada.clone()).header("x-request-id", "1").await?;
    println!("saved {}", saved.get().name);

    let missing = client.get_profile(GetProfileRequest { id: "bob".to_owned() }).await;
    let missing = missing.err().ok_or("there is no bob")?;
    println!("bob: {missing}");
    assert!(missing.is(rpc::code::NOT_FOUND) && missing.is_remote());

    let order = GenerateReportRequest {
        report_id: "q1".to_owned(),
        title: "First quarter".to_owned(),
        pages: 300,
    };
    let report = client.generate_report(order.clone()).await?.into_inner();
    println!("report of {} bytes", report.content.len());

    // Nobody serves any more; what was answered is still there.
    service.drain().await?;
    let key = client.save_profile_key(&ada)?;
    let stored = client.kv_save_profile().get(&key).await?.ok_or("the profile was kept")?;
    println!("{key}: {}", stored.email);
    assert_eq!(stored, saved.into_inner());

    let key = client.generate_report_key(&order)?;
    let stored = client.objects_generate_report().get(&key).await?;
    assert_eq!(stored.ok_or("the report was kept")?, report);
    println!("{key} is the report");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nats = nats_connector::register().await?;
    run(&nats).await?;
    shutdown::trigger();
    std::process::exit(shutdown::wait().await.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_answered_outlives_the_service() {
        run(&Connector::memory()).await.unwrap();
    }

    #[tokio::test]
    async fn on_a_server_too() {
        let server = testkit::Server::builder().jetstream().start().await;
        let settings = nats_connector::Settings::builder()
            .set("NATS.SERVER", server.url())
            .set("NATS.REQUEST_TIMEOUT", "30s");
        run(&Connector::connect(&settings.build().unwrap()).await.unwrap()).await.unwrap();
    }
}
