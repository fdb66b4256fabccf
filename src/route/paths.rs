//! Routes of one host by path: a tree of segments for exact paths and prefixes, and regexes.
//!
//! One walk down the tree costs the length of the path, at most as deep as the deepest route.
//! The way back up visits every prefix that fits, the longest first.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::types::{self as config, PathPattern};

use super::path::normalise;
use super::specificity;

/// From this many regexes on, one combined automaton first tells whether any of them fits.
const COMBINE_FROM: usize = 4;

/// Routes with the same host and path, by precedence.
type Leaf = SmallVec<[u32; 2]>;

#[derive(Debug)]
pub(super) struct Paths {
    /// `nodes[0]` is the root: the path before its first slash.
    nodes: Vec<Node>,
    /// Paths of `exact` routes that are no path (`*`) never get here.
    regexes: Vec<(regex::Regex, Leaf)>,
    any_regex: Option<regex::RegexSet>,
    has_exact: bool,
}

#[derive(Debug, Default)]
struct Node {
    parent: u32,
    children: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
    exact: Leaf,
    prefix: Leaf,
}

impl Paths {
    /// `indexes` are the routes of this host, ascending.
    pub(super) fn new(routes: &[Arc<config::Route>], indexes: &[usize]) -> Self {
        let mut paths = Self {
            nodes: vec![Node::default()],
            regexes: Vec::new(),
            any_regex: None,
            has_exact: false,
        };
        // Stable: among equals the order of the file stays. Regexes go by the place at which
        // their text appears first.
        let mut sorted: Vec<usize> = indexes.to_vec();
        sorted.sort_by_key(|&index| specificity(&routes[index]));
        for &index in indexes {
            if let PathPattern::Regex(regex) = &routes[index].path
                && !paths.regexes.iter().any(|(known, _)| known.as_str() == regex.as_str())
            {
                paths.regexes.push((regex.clone(), Leaf::new()));
            }
        }
        for index in sorted {
            paths.add(&routes[index].path, index as u32);
        }
        if paths.regexes.len() >= COMBINE_FROM {
            // Too large to combine: each is tried by itself.
            paths.any_regex =
                regex::RegexSet::new(paths.regexes.iter().map(|(regex, _)| regex.as_str())).ok();
        }
        paths
    }

    fn add(&mut self, pattern: &PathPattern, route: u32) {
        match pattern {
            PathPattern::Exact(path) => {
                let node = self.node(&comparable(path));
                self.nodes[node].exact.push(route);
                self.has_exact = true;
            }
            PathPattern::Prefix(path) => {
                let path = comparable(path);
                let node = self.node(path.strip_suffix('/').unwrap_or(&path));
                self.nodes[node].prefix.push(route);
            }
            PathPattern::Regex(regex) => {
                let known = self.regexes.iter_mut().find(|(r, _)| r.as_str() == regex.as_str());
                if let Some((_, leaf)) = known {
                    leaf.push(route);
                }
            }
        }
    }

    /// The node of a path, made if it is not there.
    fn node(&mut self, path: &str) -> usize {
        let mut at = 0;
        for segment in path.split('/').skip(1) {
            at = match self.nodes[at].children.get(segment) {
                Some(&child) => child as usize,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node { parent: at as u32, ..Node::default() });
                    self.nodes[at].children.insert(segment.into(), child as u32);
                    child
                }
            };
        }
        at
    }

    /// The first route by precedence that `fits` agrees to.
    pub(super) fn find(&self, path: &str, fits: &impl Fn(u32) -> bool) -> Option<usize> {
        let first = |leaf: &Leaf| leaf.iter().copied().find(|&route| fits(route));
        let (mut at, whole) = self.walk(path);
        if self.has_exact
            && whole
            && let Some(route) = first(&self.nodes[at].exact)
        {
            return Some(route as usize);
        }
        if self.any_regex.as_ref().is_none_or(|any| any.is_match(path)) {
            let mut fitting = self.regexes.iter().filter(|(regex, _)| regex.is_match(path));
            if let Some(route) = fitting.find_map(|(_, leaf)| first(leaf)) {
                return Some(route as usize);
            }
        }
        loop {
            let node = &self.nodes[at];
            if let Some(route) = first(&node.prefix) {
                return Some(route as usize);
            }
            if at == 0 {
                return None;
            }
            at = node.parent as usize;
        }
    }

    /// The deepest node on the way of a path, and whether it is the path's own.
    #[inline]
    fn walk(&self, path: &str) -> (usize, bool) {
        let mut at = 0;
        let mut rest = path;
        while let Some(below) = rest.strip_prefix('/') {
            let children = &self.nodes[at].children;
            if children.is_empty() {
                return (at, false);
            }
            let end = memchr::memchr(b'/', below.as_bytes()).unwrap_or(below.len());
            match children.get(&below[..end]) {
                Some(&child) => at = child as usize,
                None => return (at, false),
            }
            rest = &below[end..];
        }
        (at, rest.is_empty() && !path.is_empty())
    }
}

/// A path of the configuration as requests' paths are compared. One that is no path at all
/// is kept: no request has it.
fn comparable(path: &str) -> String {
    normalise(path).map_or_else(|_| path.to_owned(), |path| path.into_owned())
}
