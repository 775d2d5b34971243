//! Tries whether the servers of NATS let this node in: for `ws2api check`.

use super::cluster::link_settings;
use crate::cluster::reach::reach;
use crate::config::{Config, Warning};

/// A line for each server that lets us in, and what is wrong with the others. Blocks for at most twice the connection's time-out
/// for each.
#[must_use]
pub fn servers(config: &Config) -> (Vec<String>, Vec<Warning>) {
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
    if config.node.cluster.is_empty() {
        return (rows, warnings);
    }
    let settings = match link_settings(config) {
        Ok(settings) => settings,
        Err(error) => {
            warnings.push(Warning {
                what: format!("cluster_ca: {error}"),
                fix: "a start ends with that".to_owned(),
            });
            return (rows, warnings);
        }
    };
    for url in &config.node.cluster {
        match reach(url, &settings) {
            Ok(reached) => {
                let payload_max = reached.max_payload;
                rows.push(format!(
                    "# {}: lets this node in, and takes {payload_max} bytes at once",
                    reached.server
                ));
                if payload_max < settings.payload_len_max {
                    warnings.push(Warning {
                        what: format!(
                            "cluster {url}: NATS takes messages of {payload_max} bytes (max_payload), and a push with message_max has up to {}",
                            settings.payload_len_max
                        ),
                        fix: "longer ones to clients of other nodes get 413; raise max_payload or lower message_max".to_owned(),
                    });
                }
            }
            Err(why) => warnings.push(Warning {
                what: format!("cluster {url}: {why}"),
                fix: "while no server can be reached, clients of other nodes are not found: 503".to_owned(),
            }),
        }
    }
    (rows, warnings)
}
