//! Reads any bytes as a configuration file: no panic; what is accepted is sound, what is refused says where.
#![no_main]

use config::{Overrides, SHARDS_MAX};
use libfuzzer_sys::fuzz_target;

const CPUS: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match config::resolve(Some(("file", text)), &Overrides::default(), CPUS) {
        Ok(found) => {
            assert!((1..=SHARDS_MAX).contains(&found.cores.len()));
            for core in &found.cores {
                assert!(CPUS.contains(&core.cpu));
                assert!(core.ping_after < core.dead_after);
                assert!(core.clients_max > 0 && core.calls_in_flight > 0 && core.pushes_in_flight > 0);
            }
            assert!(!found.node.backends.is_empty());
            assert!(!found.node.path_prefix.is_empty());
            assert!(found.node.path_prefix.iter().all(|prefix| prefix.starts_with('/')));
            assert!(!found.render().is_empty());
            let _ = config::warnings(&found).len();
            let again = config::resolve(Some(("file", text)), &Overrides::default(), CPUS);
            assert_eq!(again.as_ref(), Ok(&found), "the same file, the same config");
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() > "file".len(), "{words:?}");
            assert!(words.lines().count() < 40, "{words}");
        }
    }
});
