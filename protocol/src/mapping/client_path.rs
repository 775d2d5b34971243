//! Finds the ClientId in the path of an opening handshake.

/// The segment that is the ClientId, still percent-encoded: what is left of `path` behind the longest of `prefixes`
/// (each begins and ends with `/`) that it begins with. Empty segments around it are ignored. `is_last` takes the last
/// segment of several.
#[must_use]
pub fn client_segment<'p>(path: &'p str, prefixes: &[impl AsRef<str>], is_last: bool) -> Option<&'p str> {
    let prefix = prefixes
        .iter()
        .map(AsRef::as_ref)
        .filter(|prefix| path.starts_with(prefix))
        .max_by_key(|prefix| prefix.len())?;
    let rest = path.get(prefix.len()..)?.trim_matches('/');
    let segment = if is_last {
        rest.rsplit('/').next().unwrap_or_default()
    } else {
        rest
    };
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_segments_around_the_id_are_ignored() {
        for (path, prefixes, expected) in [
            ("/CP1", &["/"][..], Some("CP1")),
            ("//CP1", &["/"], Some("CP1")),
            ("/CP1/", &["/"], Some("CP1")),
            ("/ocpp//CP1//", &["/ocpp/"], Some("CP1")),
            ("/", &["/"], None),
            ("//", &["/"], None),
            ("/a/CP1", &["/"], None),
            ("/ocpp/CP1", &["/ws/"], None),
            ("/ocppCP1", &["/ocpp/"], None),
            ("/ocpp/CP1", &["/", "/ocpp/"], Some("CP1")),
            ("/CP1", &["/", "/ocpp/"], Some("CP1")),
            ("/ocpp", &["/", "/ocpp/"], Some("ocpp")),
            ("/ocpp/", &["/", "/ocpp/"], None),
            ("/a/b/CP%201", &["/a/b/", "/a/"], Some("CP%201")),
        ] {
            assert_eq!(client_segment(path, prefixes, false), expected, "{path} {prefixes:?}");
        }
    }

    #[test]
    fn the_last_segment_may_be_the_id() {
        for (path, expected) in [
            ("/CP1", Some("CP1")),
            ("/ocpp/v16/CP1", Some("CP1")),
            ("/ocpp/v16/CP1/", Some("CP1")),
            ("//", None),
        ] {
            assert_eq!(client_segment(path, &["/"], true), expected, "{path}");
        }
        assert_eq!(client_segment("/x/CP1", &["/ocpp/"], true), None);
    }
}
