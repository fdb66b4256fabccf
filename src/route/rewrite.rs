//! `rewrite`: the request target that a backend gets.
//!
//! In this order: `strip_prefix`, `add_prefix`, then the first match of `regex` becomes `to`.
//! They work on the normalised path, so that what the route saw is what is rewritten. The
//! result is normalised again: a group put in another place must not climb out of it. The
//! query stays; one written in `to` comes before it.

use std::borrow::Cow;

use http::uri::PathAndQuery;

use crate::config::types as config;

use super::path::{PathError, normalise};

/// The target for the backend. `normalised` is what the route was matched with; the query is
/// taken from `original`.
pub fn rewrite(
    rule: &config::Rewrite,
    original: &PathAndQuery,
    normalised: &str,
) -> Result<PathAndQuery, PathError> {
    if normalised == "*" {
        return Ok(original.clone());
    }
    let mut path = Cow::Borrowed(strip(normalised, &rule.strip_prefix));
    if !rule.add_prefix.is_empty() {
        path = Cow::Owned([rule.add_prefix.trim_end_matches('/'), &path].concat());
    }
    if let Some((regex, to)) = &rule.regex
        && let Some(groups) = regex.captures(&path)
    {
        path = Cow::Owned(replace(&path, &groups, to));
    }
    let (path, own_query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*path, None),
    };
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    target.push_str(path);
    let mut target = normalise(&target)?.into_owned();
    let queries = own_query.into_iter().chain(original.query());
    for (separator, query) in ['?', '&'].into_iter().zip(queries) {
        target.push(separator);
        target.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).map_err(|_| PathError::Rewritten)
}

/// Takes a prefix away that ends at a segment; a path without it stays.
fn strip<'a>(path: &'a str, prefix: &str) -> &'a str {
    match path.strip_prefix(prefix.trim_end_matches('/')) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// The path with the match replaced; `$1` to `$99` are groups, `$$` is a dollar sign. (The
/// regex crate reads `$1x` as a group named `1x`; people mean group 1 and an x.)
fn replace(path: &str, groups: &regex::Captures<'_>, to: &str) -> String {
    let whole = groups.get_match();
    let mut out = String::with_capacity(path.len() + to.len());
    out.push_str(&path[..whole.start()]);
    let mut rest = to;
    while let Some((text, after)) = rest.split_once('$') {
        out.push_str(text);
        let digits = after.bytes().take(2).take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            let group = after[..digits].parse().ok().and_then(|group: usize| groups.get(group));
            out.push_str(group.map_or("", |group| group.as_str()));
        } else {
            out.push('$');
        }
        rest = match digits {
            0 => after.strip_prefix('$').unwrap_or(after),
            _ => &after[digits..],
        };
    }
    out.push_str(rest);
    out.push_str(&path[whole.end()..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(strip: &str, add: &str, regex: Option<(&str, &str)>) -> config::Rewrite {
        config::Rewrite {
            strip_prefix: strip.to_owned(),
            add_prefix: add.to_owned(),
            regex: regex.map(|(r, to)| (regex::Regex::new(r).expect("regex"), to.to_owned())),
        }
    }

    #[test]
    fn targets() {
        let cases: &[(config::Rewrite, &str, &str)] = &[
            (rule("/api", "", None), "/api/x?q=1", "/x?q=1"),
            (rule("/api/", "", None), "/api/x", "/x"),
            (rule("/api", "", None), "/api", "/"),
            (rule("/api", "", None), "/api?q", "/?q"),
            (rule("/api", "", None), "/apix", "/apix"),
            (rule("/api", "", None), "/%61pi/x", "/x"),
            (rule("/api", "", None), "/api//x", "//x"),
            (rule("/", "", None), "/a/b", "/a/b"),
            (rule("", "/v2", None), "/x?y", "/v2/x?y"),
            (rule("", "/v2/", None), "/", "/v2/"),
            (rule("/v1", "/v2", None), "/v1/x", "/v2/x"),
            (rule("", "", Some(("^/u/([0-9]+)$", "/user?id=$1"))), "/u/7", "/user?id=7"),
            (rule("", "", Some(("^/u/([0-9]+)$", "/user?id=$1"))), "/u/7?a=b", "/user?id=7&a=b"),
            (rule("", "", Some(("^/u/([0-9]+)$", "/$1x"))), "/u/7", "/7x"),
            (rule("", "", Some(("/old/", "/new/"))), "/a/old/b", "/a/new/b"),
            (rule("", "", Some(("^/(a)(b)?", "/$2$1$$$3"))), "/a/c", "/a$/c"),
            (rule("", "", Some(("^/nothing", "/x"))), "/a", "/a"),
            (rule("", "", Some(("^/s(.*)", "/static/$1"))), "/s..", "/"),
            (rule("", "", Some(("^/s(.*)", "$1"))), "/sx", "/x"),
        ];
        for (rule, target, expected) in cases {
            let target: PathAndQuery = target.parse().expect("target");
            let normalised = normalise(target.path()).expect("path");
            let got = rewrite(rule, &target, &normalised).expect("valid");
            assert_eq!(got.as_str(), *expected, "{target} by {rule:?}");
        }
    }

    #[test]
    fn what_is_no_target_is_an_error() {
        let target = PathAndQuery::from_static("/a");
        let spaced = rule("", "", Some(("^/a", "/a b")));
        assert_eq!(rewrite(&spaced, &target, "/a"), Err(PathError::Rewritten));
        let slash = rule("", "", Some(("^/a", "/%2F")));
        assert_eq!(rewrite(&slash, &target, "/a"), Err(PathError::EscapedSlash));
    }
}
