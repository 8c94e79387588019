//! Profiles and reports: a service whose responses persist themselves, and a gateway that answers from
//! the store when the service is down.
//!
//! - `SaveProfile` and `GetProfile` keep each profile in a key-value bucket, as `user.{id}`; saving
//!   answers when it is kept, reading answers first and keeps after.
//! - `GenerateReport` keeps each report as an object.
//! - The gateway calls the service. When nobody serves, it gives the profile that was stored last, and
//!   says so.
//!
//! ```text
//! cargo run --example rpc_profile      # against a server
//! cargo test --example rpc_profile     # in memory
//! ```

#![cfg_attr(not(test), expect(clippy::print_stdout, reason = "an example talks to its user"))]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nats_connector::rpc::{
    self, Client, Endpoint, KeyText, Method, Persist, Policy, Request, Rpc, RpcError, Service,
    ServiceConfig, Stored,
};
use nats_connector::{Connector, kv, objects};
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    id: String,
    name: String,
    email: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct GetProfile {
    id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct GenerateReport {
    user_id: String,
    year: u16,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    title: String,
    lines: Vec<String>,
}

/// What service and clients agree on.
struct Api {
    service: ServiceConfig,
    save_profile: Method<Profile, Profile>,
    get_profile: Method<GetProfile, Profile>,
    generate_report: Method<GenerateReport, Report>,
}

fn user_key(id: &str) -> nats_connector::Result<String> {
    KeyText::new().text("user.").field("id", id)?.finish()
}

impl Api {
    fn new() -> Self {
        // Two methods share a bucket: what one of them says of it holds for both.
        let profiles = kv::BucketConfig::new("user_profiles").description("profiles").history(5);
        let saved = Persist::kv(profiles, |profile: &Profile| user_key(&profile.id));
        let read = Persist::kv("user_profiles", |get: &GetProfile| user_key(&get.id));
        let reports = Persist::objects(
            objects::BucketConfig::new("reports").ttl(24 * HOUR),
            |ask: &GenerateReport| {
                let key = KeyText::new().text("report.").field("user_id", &ask.user_id)?;
                key.text(".").field("year", &ask.year)?.finish()
            },
        );
        Api {
            service: ServiceConfig::new("profile_service").prefix("api.v1.profiles"),
            save_profile: Method::json("save_profile").persist(saved.policy(Policy::Required)),
            get_profile: Method::json("get_profile").persist(read),
            generate_report: Method::json("generate_report").persist(reports),
        }
    }
}

/// Stands for the service's database.
type Database = Arc<Mutex<HashMap<String, Profile>>>;

fn find(database: &Database, id: &str) -> Result<Profile, RpcError> {
    let profiles = database.lock().unwrap_or_else(PoisonError::into_inner);
    profiles.get(id).cloned().ok_or_else(|| RpcError::not_found(format!("no profile {id}")))
}

async fn serve(rpc: &Rpc, api: &Api, database: Database) -> nats_connector::Result<Service> {
    let (save, get, report) = (database.clone(), database.clone(), database);
    let save = Endpoint::unary(&api.save_profile, move |request: Request<Profile>| {
        let profile = request.into_inner();
        let mut profiles = save.lock().unwrap_or_else(PoisonError::into_inner);
        profiles.insert(profile.id.clone(), profile.clone());
        async { Ok::<_, RpcError>(profile) }
    });
    let get = Endpoint::unary(&api.get_profile, move |request: Request<GetProfile>| {
        let found = find(&get, &request.get().id);
        async { found }
    });
    let report = Endpoint::unary(&api.generate_report, move |request: Request<GenerateReport>| {
        let GenerateReport { user_id, year } = request.into_inner();
        let found = find(&report, &user_id);
        async move {
            let Profile { name, email, .. } = found?;
            let lines = (1..=12).map(|month| format!("{year}-{month:02}: {email}")).collect();
            Ok::<_, RpcError>(Report { title: format!("{name} in {year}"), lines })
        }
    });
    rpc.service(api.service.clone()).endpoints([save, get, report]).serve().await
}

/// Answers in front of the service, and for it while it is down.
struct Gateway {
    profiles: Stored<GetProfile, Profile>,
}

impl Gateway {
    fn new(client: &Client, api: &Api) -> Self {
        Gateway { profiles: client.kv(&api.get_profile) }
    }

    async fn profile(&self, id: &str) -> rpc::Result<(Profile, &'static str)> {
        let request = GetProfile { id: id.to_owned() };
        let answer = self.profiles.call_or_get(request).timeout(Duration::from_secs(10)).await?;
        let from = if answer.is_stored() { "the store" } else { "the service" };
        Ok((answer.into_inner(), from))
    }
}

/// Saves, reads, reports, and reads again when the service is gone; what a user would see.
async fn tour(rpc: &Rpc) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let api = Api::new();
    let service = serve(rpc, &api, Database::default()).await?;
    let client = rpc.client(api.service.clone());
    let mut seen = Vec::new();

    let [id, name, email] = ["42", "Ada", "ada@example.org"].map(str::to_owned);
    client.call(&api.save_profile, Profile { id, name, email }).await?;
    let report = || GenerateReport { user_id: "42".to_owned(), year: 2026 };
    client.call(&api.generate_report, report()).await?;

    let gateway = Gateway::new(&client, &api);
    let (profile, from) = gateway.profile("42").await?;
    seen.push(format!("{} from {from}", profile.name));

    // What waits to be stored is, before the drain is done.
    service.drain().await?;
    let (profile, from) = gateway.profile("42").await?;
    seen.push(format!("{} from {from}", profile.name));
    if let Err(error) = gateway.profile("43").await {
        seen.push(format!("43: {}", error.code()));
    }

    let reports = client.objects(&api.generate_report);
    let key = reports.key(&report())?;
    if let Some(report) = reports.get(&key).await? {
        seen.push(format!("{key}: {}, {} lines", report.title, report.lines.len()));
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_gateway_answers_from_the_store_when_the_service_is_down() {
        let seen = tour(&Connector::memory().rpc()).await.unwrap();
        assert_eq!(
            seen,
            [
                "Ada from the service",
                "Ada from the store",
                "43: UNAVAILABLE",
                "report.42.2026: Ada in 2026, 12 lines"
            ]
        );
    }
}

#[cfg(not(test))]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connector = Connector::from_settings().await?;
    for line in tour(&connector.rpc()).await? {
        println!("{line}");
    }
    std::process::exit(i32::from(!connector.drain().await.is_clean()));
}
