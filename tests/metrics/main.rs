//! The metrics of the library: each moves when it should, and nothing else does.
//!
//! Every test has a recorder of its own thread, so it runs on a runtime of one thread.

mod connection;
mod durable;
mod kv;
mod list;
mod pubsub;

use std::time::Duration;

use metrics::LocalRecorderGuard;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use nats_connector::metrics::{Kind, all};
use nats_connector::{Connector, Settings};
use testkit::Server;

/// Long enough for a busy machine: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(15);

/// What was told to the recorder of this thread.
struct Recorded {
    told: Snapshotter,
    _guard: LocalRecorderGuard<'static>,
}

impl Recorded {
    /// Installs a recorder. It stays in memory, as a global one would.
    fn begin() -> Self {
        let recorder: &DebuggingRecorder = Box::leak(Box::new(DebuggingRecorder::new()));
        let _guard = metrics::set_default_local_recorder(recorder);
        Recorded { told: recorder.snapshotter(), _guard }
    }

    /// What moved since the last look, as `name{label=value} by`, without the connection's own
    /// labels; of a histogram how many values it got. What stands still is left out.
    ///
    /// # Panics
    /// When something is not as the list of metrics says.
    fn moved(&self, driver: &str, connector: &str) -> Vec<String> {
        let mut moved = Vec::new();
        for (key, unit, meaning, value) in self.told.snapshot().into_vec() {
            let (kind, key) = key.into_parts();
            let listed = all().iter().find(|metric| metric.name == key.name());
            let listed = listed.unwrap_or_else(|| panic!("{key} is not listed"));
            let expected = match listed.kind {
                Kind::Counter => MetricKind::Counter,
                Kind::Gauge => MetricKind::Gauge,
                Kind::Histogram => MetricKind::Histogram,
            };
            assert_eq!(kind, expected, "{key}");
            assert_eq!(unit.map(|unit| unit.as_str()), Some(listed.unit), "{key}");
            assert_eq!(meaning.as_deref(), Some(listed.meaning), "{key}");
            let names: Vec<&str> = key.labels().map(metrics::Label::key).collect();
            assert_eq!(names, listed.labels, "{key}");

            let label = |name| key.labels().find(|it| it.key() == name).map(metrics::Label::value);
            if (label("driver"), label("connector")) != (Some(driver), Some(connector)) {
                continue;
            }
            let by = match value {
                DebugValue::Counter(by) => by as f64,
                DebugValue::Gauge(by) => by.into_inner(),
                DebugValue::Histogram(values) => {
                    assert!(
                        values.iter().all(|value| value.is_finite() && **value >= 0.0),
                        "{key}"
                    );
                    values.len() as f64
                }
            };
            if by != 0.0 {
                let labels = key.labels().skip(2).filter(|it| !it.value().is_empty());
                let labels: Vec<_> =
                    labels.map(|it| format!("{}={}", it.key(), it.value())).collect();
                let name = key.name().strip_prefix("nats_connector_").unwrap();
                moved.push(format!("{name}{{{}}} {by}", labels.join(",")));
            }
        }
        moved.sort();
        moved
    }

    /// Forgets what moved so far.
    fn skip(&self) {
        self.told.snapshot();
    }

    /// The names and labels of all that is known by now.
    fn keys(&self) -> Vec<String> {
        let all = self.told.snapshot().into_vec();
        all.into_iter().map(|(key, ..)| key.key().to_string()).collect()
    }
}

/// A connector in process, and one on a real server; the names of their drivers.
async fn connectors() -> (Server, [(&'static str, Connector); 2]) {
    let server = Server::builder().jetstream().start().await;
    let nats = connect(&server.url(), "NATS").await;
    (server, [("memory", Connector::memory()), ("nats", nats)])
}

async fn connect(url: &str, domain: &str) -> Connector {
    let settings = Settings::builder()
        .domain(domain)
        .set(format!("{domain}.SERVER"), url)
        .set(format!("{domain}.RECONNECT_WAIT"), "50ms")
        .set(format!("{domain}.MAX_RECONNECT"), "-1");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}
