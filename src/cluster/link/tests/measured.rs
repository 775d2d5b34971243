use std::time::{Duration, Instant};

use support::Nats;

use super::driver::{Driver, settings};

/// `cargo test --release --lib two_hundred_thousand -- --ignored --nocapture`
#[test]
#[ignore = "measures: what 100,000 clients' subscriptions cost, made in slices and made again"]
fn two_hundred_thousand_subscriptions_are_made_and_made_again() {
    let Some(mut nats) = Nats::start("") else { return };
    let (driver, other) = (Driver::start(settings(&[&nats.url()])), Driver::to(&[&nats.url()]));
    for round in ["made", "made again"] {
        driver.connected_again();
        other.connected_again();
        let (before, servers) = (own_cpu(), cpu(nats.pid()));
        let began = Instant::now();
        let mut first = 0;
        let mut longest = Duration::ZERO;
        while first < CLIENTS {
            let slice = Instant::now();
            let made = driver.ask(move |link| {
                // As a member does it: no more while NATS takes no more.
                if link.waiting_len() > 256 * 1024 {
                    return 0;
                }
                for client in first..first + SLICE {
                    let id = format!("{client:024x}");
                    link.subscribe(16 + 2 * client, &format!("ws2api.client.{id}"), Some("node"));
                    link.subscribe(17 + 2 * client, &format!("ws2api.took.{id}"), None);
                }
                SLICE
            });
            if made == 0 {
                std::thread::yield_now();
            }
            first += made;
            longest = longest.max(slice.elapsed());
        }
        driver.ask(|link| {
            link.subscribe(1, "ws2api.ready", None);
            link.publish("ws2api.ready", None, b"").unwrap();
        });
        assert_eq!(driver.message().1, "ws2api.ready");
        eprintln!(
            "{} subscriptions {round} in {:?}, the longest slice of {SLICE} clients {longest:?}; CPU: {:?} of this process, {:?} of nats-server, which has {} MiB",
            2 * CLIENTS,
            began.elapsed(),
            own_cpu() - before,
            cpu(nats.pid()) - servers,
            resident(nats.pid()) >> 20,
        );
        // The last one is there, and one that nobody has made is not.
        other.ask(|link| {
            let last = format!("ws2api.client.{:024x}", CLIENTS - 1);
            link.publish(&last, Some("r.1"), b"x").unwrap();
        });
        assert_eq!(driver.message().0, 16 + 2 * (CLIENTS - 1));
        nats.start_again();
        driver.lost();
        other.lost();
    }
}

const CLIENTS: u64 = 100_000;
const SLICE: u64 = 256;

fn own_cpu() -> Duration {
    cpu(std::process::id())
}

/// User and system time: fields 14 and 15 of `/proc/<pid>/stat`, in hundredths of a second.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// In bytes.
fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
