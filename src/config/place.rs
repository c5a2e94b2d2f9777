//! The forms of paths, hosts and store URLs, as far as they can be told without asking anybody.

use std::path::{Component, Path};

use url::Url;

use crate::store::Settings as StoreSettings;

/// A URL path prefix that a route may have.
pub(super) fn url_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("{path:?} does not begin with \"/\""));
    }
    if let Some(wrong) = path.chars().find(|c| c.is_control() || "?#%\\".contains(*c)) {
        return Err(format!(
            "{path:?} contains {wrong:?}: write the path decoded, without query"
        ));
    }
    let mut segments: Vec<_> = path.split('/').skip(1).collect();
    if segments.last() == Some(&"") {
        segments.pop();
    }
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return Err(format!("{path:?} has an empty segment, \".\" or \"..\" in it"));
    }
    Ok(())
}

/// A host name or address without a port.
pub(super) fn host_name(host: &str) -> Result<(), String> {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Ok(());
    }
    if host.contains(':') {
        return Err(format!("{host:?} has a port: a route answers on every port"));
    }
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        return Err(format!("{host:?} is not a host name"));
    }
    Ok(())
}

/// A place in a store: which store, which folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Anchor {
    kind: &'static str,
    /// Bucket or container, and the server it is on.
    bucket: String,
    folders: Vec<String>,
}

impl Anchor {
    /// Reads where a store URL leads.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.starts_with("file:") || text.starts_with("memory:") {
                return Err(format!(
                    "{text:?} is not a store: write file:///directory or memory:///"
                ));
            }
            return Ok(Self::folder(Path::new(text)));
        };
        let kind = match scheme {
            "s3" | "s3a" => "s3",
            "gs" => "gs",
            "az" | "azure" | "abfs" | "abfss" => "az",
            "file" => "file",
            "memory" => "memory",
            other => {
                return Err(format!(
                    "\"{other}://\" is none of s3://, gs://, az://, file:///, memory:///, nor a path"
                ));
            }
        };
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        if url.password().is_some() || (kind != "az" && !url.username().is_empty()) {
            return Err("a URL with a user name or password in it is refused: they would show up in logs".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a query or fragment means nothing here: options go into store_options".to_owned());
        }
        match kind {
            "file" if !rest.starts_with('/') => Err(format!(
                "{text:?} names a host: a directory is file:///directory or a plain path"
            )),
            "file" => {
                let path = url
                    .to_file_path()
                    .map_err(|()| format!("{text:?} is not a directory"))?;
                Ok(Self::folder(&path))
            }
            "memory" => Ok(Self {
                kind,
                bucket: String::new(),
                folders: folders(url.path()),
            }),
            _ => match url.host_str() {
                Some(host) if !host.is_empty() => {
                    let bucket = format!("{}@{host}", url.username());
                    Ok(Self {
                        kind,
                        bucket,
                        folders: folders(url.path()),
                    })
                }
                _ => Err(format!("{text:?} names no bucket")),
            },
        }
    }

    /// Where the files of a route are.
    pub(super) fn of_files(store: &StoreSettings) -> Result<Self, String> {
        Ok(Self::parse(&store.url)?.on_server_of(store))
    }

    /// Where the sessions of a route are.
    pub(super) fn of_sessions(store: &StoreSettings) -> Result<Self, String> {
        let mut place = Self::parse(store.staging.as_deref().unwrap_or(&store.url))?.on_server_of(store);
        place.folders.extend(folders(&store.reserved_prefix));
        Ok(place)
    }

    /// Whether this place is somewhere below `other`. Every memory is a place of its own.
    pub(super) fn lies_in(&self, other: &Self) -> bool {
        self.kind != "memory"
            && self.kind == other.kind
            && self.bucket == other.bucket
            && self.folders.starts_with(&other.folders)
    }

    /// Whether the same options speak to both.
    pub(super) fn same_kind(&self, other: &Self) -> bool {
        self.kind == other.kind
    }

    /// Buckets of one name on two servers are two buckets.
    fn on_server_of(mut self, store: &StoreSettings) -> Self {
        for (name, value) in &store.options {
            if name.contains("endpoint") || name.contains("account_name") {
                self.bucket.push_str(&format!("|{}", value.expose()));
            }
        }
        self
    }

    fn folder(path: &Path) -> Self {
        // Without asking the file system: a link that leads elsewhere is not seen here.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut folders = Vec::new();
        for component in absolute.components() {
            match component {
                Component::ParentDir => {
                    folders.pop();
                }
                Component::Normal(name) => folders.push(name.to_string_lossy().into_owned()),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        Self {
            kind: "file",
            bucket: String::new(),
            folders,
        }
    }
}

fn folders(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|folder| !folder.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_urls_are_told_apart_from_other_text() {
        for (text, wrong) in [
            ("s3://bucket/prefix", None),
            ("gs://bucket", None),
            ("az://container/prefix", None),
            ("file:///srv/files", None),
            ("memory:///", None),
            ("./bits-data", None),
            ("/data", None),
            ("s3:///prefix", Some("\"s3:///prefix\" names no bucket")),
            (
                "http://bucket",
                Some("\"http://\" is none of s3://, gs://, az://, file:///, memory:///, nor a path"),
            ),
            (
                "file://srv/files",
                Some("\"file://srv/files\" names a host: a directory is file:///directory or a plain path"),
            ),
            (
                "file:/srv",
                Some("\"file:/srv\" is not a store: write file:///directory or memory:///"),
            ),
            (
                "s3://key:secret@bucket",
                Some("a URL with a user name or password in it is refused: they would show up in logs"),
            ),
            (
                "s3://bucket?region=x",
                Some("a query or fragment means nothing here: options go into store_options"),
            ),
        ] {
            assert_eq!(Anchor::parse(text).err().as_deref(), wrong, "{text}");
        }
    }

    #[test]
    fn a_place_lies_in_another_by_whole_folders() {
        let lies = |one: &str, other: &str| Anchor::parse(one).unwrap().lies_in(&Anchor::parse(other).unwrap());
        assert!(lies("s3://b/x/y", "s3://b/x"));
        assert!(lies("s3://b/x/", "s3://b/x"));
        assert!(lies("/srv/a/../b/c", "file:///srv/b"));
        assert!(!lies("s3://b/xy", "s3://b/x"));
        assert!(!lies("s3://b/x", "s3://c"));
        assert!(!lies("gs://b/x", "s3://b"));
        assert!(!lies("memory:///a", "memory:///"));
    }

    #[test]
    fn paths_and_hosts_are_plain() {
        for (path, wrong) in [
            ("/", None),
            ("/uploads/", None),
            ("/my files/ü", None),
            ("uploads/", Some("\"uploads/\" does not begin with \"/\"")),
            (
                "/a%20b",
                Some("\"/a%20b\" contains '%': write the path decoded, without query"),
            ),
            (
                "/a?b",
                Some("\"/a?b\" contains '?': write the path decoded, without query"),
            ),
            ("//", Some("\"//\" has an empty segment, \".\" or \"..\" in it")),
            (
                "/a/../b",
                Some("\"/a/../b\" has an empty segment, \".\" or \"..\" in it"),
            ),
        ] {
            assert_eq!(url_path(path).err().as_deref(), wrong, "{path}");
        }
        for (host, wrong) in [
            ("uploads.example.com", None),
            ("[::1]", None),
            ("a:80", Some("\"a:80\" has a port: a route answers on every port")),
            ("a/b", Some("\"a/b\" is not a host name")),
        ] {
            assert_eq!(host_name(host).err().as_deref(), wrong, "{host}");
        }
    }
}
