//! The examples and samples that no other test runs are what their texts say. scripts/real-world runs the rest.

use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn roadrunner_says_503_of_its_own_errors() {
    let yaml: Value = serde_yaml_ng::from_str(&text("examples/roadrunner/.rr.yaml")).unwrap();
    assert_eq!(yaml["version"], "3");
    assert_eq!(yaml["http"]["internal_error_code"], 503);
    assert_eq!(yaml["http"]["address"], "127.0.0.1:5000");
    assert_eq!(yaml["server"]["command"], "php worker.php");
    let composer: serde_json::Value = serde_json::from_str(&text("examples/roadrunner/composer.json")).unwrap();
    let worker = text("examples/roadrunner/worker.php");
    for (package, class) in [
        ("nyholm/psr7", "Nyholm\\Psr7\\Response"),
        ("spiral/roadrunner-http", "Spiral\\RoadRunner\\Http\\PSR7Worker"),
    ] {
        assert!(composer["require"][package].is_string(), "{package}");
        assert!(worker.contains(&format!("use {class};")), "{class}");
    }
}

#[test]
fn nobody_has_to_match_connections_to_the_workers_of_an_example() {
    for path in [
        "examples/roadrunner/.rr.yaml",
        "examples/php-fpm/nginx.conf",
        "examples/app/index.php",
    ] {
        let text = text(path);
        assert!(text.contains("config/ws2api.toml --cores 0\n"), "{path}");
        assert!(!text.contains("--set"), "{path}");
    }
}

#[test]
fn all_three_php_variants_share_the_application() {
    for (path, require) in [
        ("examples/app/index.php", "require __DIR__ . '/charging.php';"),
        (
            "examples/roadrunner/worker.php",
            "require __DIR__ . '/../app/charging.php';",
        ),
        ("examples/php-fpm/nginx.conf", "root ../app;"),
    ] {
        assert!(text(path).contains(require), "{path}");
    }
}

#[test]
fn the_table_of_examples_names_every_one_of_them() {
    let readme = text("examples/README.md");
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            assert!(
                readme.contains(&format!("]({name}")),
                "examples/README.md does not link {name}"
            );
            count += 1;
        }
    }
    assert!(count >= 5);
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut documents = vec![
        PathBuf::from("README.md"),
        "ARCHITECTURE.md".into(),
        "examples/README.md".into(),
        "php/README.md".into(),
    ];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
    let mut count = 0;
    for document in &documents {
        let content = text(&document.to_string_lossy());
        for link in content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = root().join(document.parent().unwrap()).join(path);
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            count += 1;
        }
    }
    assert!(count > 10, "{count} links");
}
