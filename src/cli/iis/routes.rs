//! Directories of IIS as routes, with a comment on everything that has no counterpart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use url::Url;

use super::document::Wrong;
use super::metabase::{Metabase, Property, UPLOAD_ENABLED, flag, folded, is_within, number};
use super::security;
use super::server::{Binding, Directory, Server, Site};
use crate::units::{ByteSize, HttpOrigin, show_duration};
use crate::upload::MemorySettings;

/// Parts of one file, at most.
const MOST_PARTS: u64 = 10_000;

/// Above it a time-out means never.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// What the operator wants beside what the files say.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Where the files of all directories go.
    pub(super) store: String,
    /// The server that goes on with what is not taken over yet.
    pub(super) upstream: Option<HttpOrigin>,
}

/// Properties that concern all routes here, or nobody.
const ELSEWHERE: [(&str, &str); 8] = [
    (
        "BITSSessionDirectory",
        "sessions are kept in .bits-gateway/; those under way on IIS are not taken over",
    ),
    (
        "BITSCleanupUseDefault",
        "see cleanup.interval, which is one for all routes",
    ),
    ("BITSCleanupCount", "see cleanup.interval, which is one for all routes"),
    ("BITSCleanupUnits", "see cleanup.interval, which is one for all routes"),
    ("BITSSessionLimitEnable", "there is no limit on the sessions of a user"),
    (
        "BITSNumberOfSessionsLimit",
        "there is no limit on the sessions of a user",
    ),
    (
        "BITSHostId",
        "any replica takes any packet, and this name leads to IIS; where it is needed: host_id",
    ),
    (
        "BITSHostIdFallbackTimeout",
        "where it is needed: host_id_fallback_timeout",
    ),
];

/// The whole file.
pub(super) fn as_toml(files: &[String], server: &Server, wanted: &Wanted) -> Result<String, Wrong> {
    let enabled = server.metabase.upload_directories()?;
    if enabled.is_empty() {
        return Err(Wrong::Together(nothing_found(&server.metabase)));
    }
    let mut page = Page {
        server,
        wanted,
        text: String::new(),
        taken: BTreeMap::new(),
        stores: Stores::default(),
    };
    page.comment(&format!(
        "Made by `bits-gateway config import-iis` of {}.",
        files.join(" and ")
    ));
    page.text.push_str(HEAD);
    page.listeners();
    for (id, path, property) in enabled {
        let at = &property.at;
        let site = server.sites.iter().find(|site| site.id == id);
        let site = site.ok_or_else(|| at.wrong(format!("no file says anything about site {id}")))?;
        let directory = site
            .directory(path, &property.written)
            .ok_or_else(|| at.wrong(format!("no file says where the files of {path} of site {id} are")))?;
        page.directory(site, path, &directory)?;
    }
    page.rest();
    Ok(page.text)
}

const HEAD: &str = "\
# Read every line before you serve it: docs/migrating-from-iis.md. What a web.config in a directory says was not read. IIS takes /Upload for
# /upload; here letters count. Uploads under way on IIS start again by themselves, from the first byte.
";

/// Why there is nothing to import.
fn nothing_found(metabase: &Metabase) -> String {
    let mut nameless: Vec<_> = metabase.nameless().collect();
    let nothing = format!("no directory has {UPLOAD_ENABLED} set");
    let Some(first) = nameless.first() else {
        return nothing;
    };
    let first = first.at.clone();
    nameless.dedup_by(|one, other| one.called == other.called);
    format!(
        "{nothing}, but {} properties of directories have a number and no name, the first one at {first}: name MBSchema.xml of that \
         server as well, or the file that docs/migrating-from-iis.md shows how to make",
        nameless.len()
    )
}

struct Page<'a> {
    server: &'a Server,
    wanted: &'a Wanted,
    text: String,
    /// The site that a path and a host belong to.
    taken: BTreeMap<(String, Option<String>), String>,
    stores: Stores,
}

impl Page<'_> {
    /// The listeners of the sites, for the choice of one's own.
    fn listeners(&mut self) {
        self.text.push_str("\n[server]\n");
        let bindings = self.server.sites.iter().flat_map(|site| &site.bindings);
        let listeners: BTreeSet<_> = bindings
            .map(|Binding { tls, address, port, .. }| {
                let scheme = if *tls { "https" } else { "http" };
                format!("{address}:{port} ({scheme})")
            })
            .collect();
        if listeners.iter().any(|listener| listener.ends_with("(https)")) {
            self.comment("TLS ends in front of the gateway: docs/fronts.md.");
        }
        let listeners: Vec<_> = listeners.into_iter().collect();
        self.comment(&format!("The sites listened on {}.", listeners.join(", ")));
        self.text.push_str("# listen = [\"0.0.0.0:80\"]\n");
    }

    /// A directory, as a route for each host name of its site.
    fn directory(&mut self, site: &Site, path: &str, directory: &Directory) -> Result<(), Wrong> {
        let around = self.stores.around(directory);
        let store = self.stores.of(&self.wanted.store, site, directory);
        let (hosts, mut notes) = hosts_of(site);
        notes.extend(
            around.map(|around| format!("Its files lay among those of {around}; here they are apart from them.")),
        );
        for host in hosts {
            let mut route = String::new();
            self.route(&mut route, (site, path), directory, host.as_deref(), &store)?;
            self.text.push('\n');
            self.comment(&format!(
                "{} of {:?}, files in {}",
                shown(&directory.path),
                site.called(),
                directory.physical
            ));
            for note in &notes {
                self.comment(note);
            }
            let taken = self.taken.get(&(path.to_owned(), host.clone())).cloned();
            match taken {
                Some(other) => {
                    self.comment(&format!(
                        "{other:?} has this path, too, and they differ by address or port only: here a host has to tell them apart."
                    ));
                    route.lines().for_each(|line| self.comment(line));
                }
                None => {
                    self.taken.insert((path.to_owned(), host), site.called());
                    self.text.push_str(&route);
                }
            }
        }
        Ok(())
    }

    fn route(
        &self,
        route: &mut String,
        (site, path): (&Site, &str),
        directory: &Directory,
        host: Option<&str>,
        store: &str,
    ) -> Result<(), Wrong> {
        let of = |name: &str| self.server.metabase.of(site.id, path, name);
        route.push_str("[[routes]]\n");
        let shown = shown(&directory.path);
        entry(route, "path", &shown);
        if let Some(host) = host {
            entry(route, "host", host);
        }
        entry(route, "store", store);

        let notify = Notify::of(
            of("BITSServerNotificationType"),
            of("BITSServerNotificationURL"),
            |relative| origin_for(site, relative, self.wanted.upstream.as_ref()),
        )?;
        match (&self.wanted.upstream, &notify) {
            (Some(upstream), _) => {
                line(
                    route,
                    "IIS still takes these uploads. To take them over: true, and nothing else changes.",
                );
                entry(route, "upload", "proxy");
                entry(route, "upstream", &upstream.to_string());
            }
            (None, Notify::Unusable(_)) => route.push_str("upload = false\n"),
            (None, Notify::Off | Notify::On { .. }) => {}
        }
        if let Some(property) = of("BITSAllowOverwrites") {
            let _ = writeln!(route, "overwrite = {}", flag(property)?);
        }
        if let Some(property) = of("BITSMaximumUploadSize") {
            max_upload_size(route, property)?;
        }
        if let Some(property) = of("BITSSessionTimeout") {
            session_timeout(route, property)?;
        }
        for (name, why) in ELSEWHERE {
            if let Some(property) = of(name) {
                line(route, &format!("{name} = {}: {why}", property.value));
            }
        }
        security::comments(&self.server.sections_of(site, path), of, |text| line(route, text));
        notify.write(route);
        Ok(())
    }

    /// Everything else of that server, where requests still go to it.
    fn rest(&mut self) {
        let root = ("/".to_owned(), None);
        if let Some(upstream) = self
            .wanted
            .upstream
            .as_ref()
            .filter(|_| !self.taken.contains_key(&root))
        {
            let upstream = upstream.to_string();
            self.text.push('\n');
            self.comment("Everything else stays on IIS. A route has to name a store; this one keeps nothing in it.");
            self.text.push_str("[[routes]]\n");
            entry(&mut self.text, "path", "/");
            entry(&mut self.text, "store", "memory:///");
            entry(&mut self.text, "upload", "proxy");
            entry(&mut self.text, "upstream", &upstream);
        }
    }

    fn comment(&mut self, text: &str) {
        line(&mut self.text, text);
    }
}

/// A comment. What comes from a file stays in it: a line break is no line break.
fn line(text: &mut String, comment: &str) {
    let comment = comment.replace(char::is_control, "\u{fffd}");
    let _ = writeln!(text, "# {comment}");
}

/// A key and its value.
fn entry(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {}", toml::Value::String(value.to_owned()));
}

/// The path of a route: one of IIS may hold what no path here does.
fn shown(path: &str) -> String {
    if path.is_empty() {
        "/".to_owned()
    } else {
        format!("{path}/")
    }
}

/// The host names of a site, `None` for all of them, and what is to be said about them.
fn hosts_of(site: &Site) -> (Vec<Option<String>>, Vec<String>) {
    let names: BTreeSet<_> = site.bindings.iter().map(|binding| binding.host.as_str()).collect();
    let (wild, plain): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.contains('*'));
    let notes = wild
        .iter()
        .map(|name| format!("The site answers to {name:?}: a route has one host name, or all."));
    let notes = notes.collect();
    if plain.is_empty() || plain.contains(&"") || !wild.is_empty() {
        return (vec![None], notes);
    }
    (plain.into_iter().map(|name| Some(name.to_owned())).collect(), notes)
}

/// Where an application is told that a relative URL names: on the server of the site.
fn origin_for(site: &Site, url: &str, upstream: Option<&HttpOrigin>) -> Option<(String, bool)> {
    debug_assert!(!url.contains("://"));
    if let Some(upstream) = upstream {
        return Some((upstream.to_string(), true));
    }
    let binding = site
        .bindings
        .iter()
        .find(|binding| !binding.tls)
        .or(site.bindings.first())?;
    let host = match (binding.host.as_str(), binding.address.as_str()) {
        ("", "*") => "localhost",
        ("", address) => address,
        (host, _) => host,
    };
    let scheme = if binding.tls { "https" } else { "http" };
    let origin: HttpOrigin = format!("{scheme}://{host}:{}", binding.port).parse().ok()?;
    Some((origin.to_string(), false))
}

fn max_upload_size(route: &mut String, property: &Property) -> Result<(), Wrong> {
    let largest = (MemorySettings::default().memory.bytes() / 4).saturating_mul(MOST_PARTS);
    if property.value.trim().is_empty() {
        line(
            route,
            "BITSMaximumUploadSize is empty, which means no limit: here it is 512GiB unless max_upload_size says more.",
        );
        return Ok(());
    }
    match number(property)? {
        0 => line(
            route,
            "BITSMaximumUploadSize = 0: max_upload_size has to be more than 0B.",
        ),
        size if size > largest => line(
            route,
            &format!(
                "BITSMaximumUploadSize = {size}: files of more than {} need more limits.memory, and a max_upload_size.",
                ByteSize::new(largest)
            ),
        ),
        size => entry(route, "max_upload_size", &ByteSize::new(size).to_string()),
    }
    Ok(())
}

fn session_timeout(route: &mut String, property: &Property) -> Result<(), Wrong> {
    let span = Duration::from_secs(number(property)?);
    if span.is_zero() || span > LONGEST {
        let seconds = span.as_secs();
        line(
            route,
            &format!(
                "BITSSessionTimeout = {seconds}: there is always one, 14 days unless session_timeout says otherwise."
            ),
        );
    } else {
        entry(route, "session_timeout", &show_duration(span));
    }
    Ok(())
}

/// What is done about the server application.
enum Notify {
    Off,
    On {
        mode: &'static str,
        url: String,
        origin: Option<(String, bool)>,
    },
    /// There is to be one, and nobody can tell where: to serve the route without it would put files where nobody expects them.
    Unusable(String),
}

impl Notify {
    fn of(
        kind: Option<&Property>,
        url: Option<&Property>,
        origin_for: impl FnOnce(&str) -> Option<(String, bool)>,
    ) -> Result<Self, Wrong> {
        let mode = match kind.map(|kind| number(kind).map(|number| (number, kind))).transpose()? {
            None | Some((0, _)) => return Ok(Self::Off),
            Some((1, _)) => "reference",
            Some((2, _)) => "value",
            Some((_, kind)) => return Err(kind.at.wrong("a notification type is 0, 1 or 2")),
        };
        let url = url.map(|url| url.value.trim().to_owned()).unwrap_or_default();
        if url.is_empty() {
            return Ok(Self::Unusable("BITSServerNotificationURL is not set".to_owned()));
        }
        match Url::parse(&url) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.password().is_none() => Ok(Self::On {
                mode,
                url,
                origin: None,
            }),
            Err(url::ParseError::RelativeUrlWithoutBase) if !url.contains('\\') => match origin_for(&url) {
                Some(origin) => Ok(Self::On {
                    mode,
                    url,
                    origin: Some(origin),
                }),
                None => Ok(Self::Unusable("the site of a relative URL listens nowhere".to_owned())),
            },
            _ => Ok(Self::Unusable(format!("{url:?} is no URL of a web server"))),
        }
    }

    fn write(&self, route: &mut String) {
        match self {
            Self::Off => {}
            Self::On { mode, url, origin } => {
                route.push_str("[routes.notify]\n");
                entry(route, "mode", mode);
                entry(route, "url", url);
                if let Some((origin, is_chosen)) = origin {
                    if !is_chosen {
                        line(
                            route,
                            "The URL was relative to that server: name it as it is reached from here.",
                        );
                    }
                    entry(route, "origin", origin);
                }
                if *mode == "reference" {
                    line(
                        route,
                        "The application gets a path only where it runs on this machine: docs/applications.md.",
                    );
                }
            }
            Self::Unusable(why) => {
                line(
                    route,
                    &format!(
                        "There is a server application, and {why}: uploads are refused until [routes.notify] says where."
                    ),
                );
            }
        }
    }
}

/// A folder of the store for every directory: one for those that shared their files.
#[derive(Default)]
struct Stores {
    by_files: BTreeMap<String, String>,
    names: BTreeSet<String>,
}

impl Stores {
    /// The store of files among which those of the directory lay.
    fn around(&self, directory: &Directory) -> Option<String> {
        let files = one_form(&directory.physical);
        let around = self
            .by_files
            .iter()
            .filter(|(other, _)| files != **other && is_within(&files, other));
        around
            .max_by_key(|(other, _)| other.len())
            .map(|(_, store)| store.clone())
    }

    fn of(&mut self, base: &str, site: &Site, directory: &Directory) -> String {
        let files = one_form(&directory.physical);
        if let Some(known) = self.by_files.get(&files) {
            return known.clone();
        }
        let plain = plain(&format!("{}{}", site.called(), directory.path));
        let mut name = plain.clone();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{plain}-{count}");
        }
        let store = format!("{}/{name}", base.trim_end_matches('/'));
        self.by_files.insert(files, store.clone());
        store
    }
}

/// A path of Windows in the one form in which paths are compared.
fn one_form(physical: &str) -> String {
    folded(&physical.replace('\\', "/"))
}

/// Small letters, digits and hyphens: what every store takes as the name of a folder.
fn plain(text: &str) -> String {
    let words: Vec<_> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    if words.is_empty() {
        "files".to_owned()
    } else {
        words.join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_plain_and_never_taken_twice() {
        let mut stores = Stores::default();
        let mut of = |name: &str, path: &str, physical: &str| {
            let site = Site {
                name: name.to_owned(),
                ..Site::default()
            };
            let directory = Directory {
                path: path.to_owned(),
                physical: physical.to_owned(),
            };
            stores.of("s3://b/p/", &site, &directory)
        };
        assert_eq!(of("Default Web Site", "/Up", "D:\\Up"), "s3://b/p/default-web-site-up");
        assert_eq!(of("default.web.site", "/up", "E:\\"), "s3://b/p/default-web-site-up-2");
        assert_eq!(of("other", "/x", "d:\\up\\"), "s3://b/p/default-web-site-up");
        assert_eq!(of("上传", "/…", "F:\\"), "s3://b/p/files");
    }

    #[test]
    fn a_site_without_a_host_name_takes_every_one() {
        let site = |hosts: &[&str]| Site {
            bindings: hosts
                .iter()
                .map(|host| Binding {
                    tls: false,
                    address: "*".to_owned(),
                    port: "80".to_owned(),
                    host: (*host).to_owned(),
                })
                .collect(),
            ..Site::default()
        };
        assert_eq!(hosts_of(&site(&[])).0, [None]);
        assert_eq!(hosts_of(&site(&["a", ""])).0, [None]);
        assert_eq!(
            hosts_of(&site(&["b", "a", "a"])).0,
            [Some("a".to_owned()), Some("b".to_owned())]
        );
        let (hosts, notes) = hosts_of(&site(&["*.a", "b"]));
        assert_eq!((hosts, notes.len()), (vec![None], 1));
    }
}
