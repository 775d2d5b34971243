//! A certificate near its end is told in time, wherever operators look: `tls-5`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use support::certificates::{Certificate, Folder, Wanted};
use support::{Authority, Backend, Proxy, Tls, Value, eventually};

const DAY: Duration = Duration::from_secs(86_400);

/// When the certificate ends, by the metric.
fn ends(proxy: &Proxy) -> u64 {
    let values = proxy.metric_where("tls_certificate_not_after_timestamp_seconds", "own.pem");
    assert_eq!(values.len(), 1, "{values:?}");
    values[0] as u64
}

fn troubles(proxy: &Proxy) -> Vec<Value> {
    let status = proxy.get("/status.json").expect(200).json();
    status["alerts"].as_array().unwrap().clone()
}

#[test]
fn a_certificate_near_its_end_is_a_metric_and_a_trouble_until_another_one_is_there() {
    let (backend, authority, folder) = (
        Backend::start(),
        Authority::new("authority"),
        Folder::new("certificates"),
    );
    let in_days = |days: u32| {
        let wanted = Wanted::server(&["localhost"]).ends(SystemTime::now() + days * DAY);
        authority.issue(wanted)
    };
    let (five, two, many) = (in_days(5), in_days(2), in_days(90));
    let put = |certificate: &Certificate| certificate.save(&folder, "own");
    let files = put(&five);
    let proxy = Proxy::with(&backend)
        .set("listen_tls", "127.0.0.1:0")
        .set("tls_certificates", &files)
        .start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let left = ends(&proxy).saturating_sub(now);
    assert!((4 * DAY.as_secs()..=5 * DAY.as_secs()).contains(&left), "{left}");
    let told = |severity: &str, words: &str| {
        eventually(words, || {
            let troubles = troubles(&proxy);
            let found = troubles.iter().find(|trouble| trouble["severity"] == severity)?;
            let message = found["message"].as_str()?;
            (message.contains("own.pem is near its end") && message.contains(words)).then_some(())
        });
    };
    told("warning", "it expires in 4 days");
    let line = proxy.wait_log("own.pem is near its end");
    assert!(line.contains("WARN"), "{line}");
    let (_, status, _) = support::program::run(&["status", "--admin", &proxy.admin.to_string()]);
    assert!(status.contains("own.pem is near its end"), "{status}");

    // In the last days it is an error.
    put(&two);
    proxy.signal(Signal::HUP);
    told("error", "it expires in 1 days");

    put(&many);
    proxy.signal(Signal::HUP);
    eventually("no trouble", || troubles(&proxy).is_empty().then_some(()));
    assert!(ends(&proxy) > now + 80 * DAY.as_secs());
    Tls::trusting(&authority).connect(proxy.listen_tls.unwrap());

    // What can't be read is said there, too, and nothing changes.
    std::fs::write(folder.join("own.pem"), "no certificate").unwrap();
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("the configuration stays as it was");
    assert!(line.contains("own.pem: there is no certificate in it"), "{line}");
    assert!(ends(&proxy) > now + 80 * DAY.as_secs());
    Tls::trusting(&authority).connect(proxy.listen_tls.unwrap());
}
