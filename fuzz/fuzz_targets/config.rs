//! Any bytes as a configuration file: no panic; what is accepted is sound, what is refused says where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ws2api::config::{self, Machine, Overrides, SHARDS_MAX};

const CPUS: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match config::resolve(Some(("file", text)), &Overrides::default(), CPUS) {
        Ok(config) => {
            assert!((1..=SHARDS_MAX).contains(&config.cores.len()));
            for core in &config.cores {
                assert!(CPUS.contains(&core.cpu));
                assert!(core.ping_after < core.dead_after);
                assert!(core.clients_max > 0 && core.calls_in_flight > 0 && core.pushes_in_flight > 0);
            }
            assert!(!config.node.backends.is_empty());
            assert!(config.node.path_prefix.starts_with('/'));
            assert!(!config.render().is_empty());
            let _ = config::warnings(&config, &Machine::read()).len();
            let again = config::resolve(Some(("file", text)), &Overrides::default(), CPUS);
            assert_eq!(again.as_ref(), Ok(&config), "the same file, the same config");
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() > "file".len(), "{words:?}");
            assert!(words.lines().count() < 40, "{words}");
        }
    }
});
