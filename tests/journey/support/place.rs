//! Where a gateway keeps its files, and what is found there without asking it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bits_gateway::store::Settings;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

/// A local directory, or a bucket of a real server.
#[derive(Debug)]
pub(crate) struct Place {
    settings: Settings,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory(TempDir),
    Bucket {
        objects: Arc<dyn ObjectStore>,
        prefix: String,
    },
}

impl Place {
    /// An empty directory.
    pub(crate) fn directory() -> Self {
        Self::of(tempfile::tempdir().expect("room for files"))
    }

    /// An empty directory below `folder`.
    pub(crate) fn directory_in(folder: &str) -> Self {
        Self::of(tempfile::tempdir_in(folder).expect("room for files"))
    }

    fn of(directory: TempDir) -> Self {
        let url = directory.path().to_str().expect("a name of letters").to_owned();
        Self {
            settings: Settings {
                url,
                ..Settings::default()
            },
            kind: Kind::Directory(directory),
        }
    }

    /// What `settings` name: a bucket or a container, and a prefix in it.
    pub(crate) fn bucket(settings: Settings) -> Self {
        let (scheme, rest) = settings.url.split_once("://").expect("a URL");
        let (bucket, prefix) = rest.split_once('/').expect("a prefix");
        // Nobody else asks for TLS here, and the library wants to know which.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = || settings.options.iter().map(|(key, value)| (key, value.expose()));
        let objects: Arc<dyn ObjectStore> = if scheme == "az" {
            let builder = MicrosoftAzureBuilder::new()
                .with_allow_http(true)
                .with_container_name(bucket);
            let builder = options().fold(builder, |builder, (key, value)| {
                builder.with_config(key.parse().expect("an option"), value)
            });
            Arc::new(builder.build().expect("a container"))
        } else {
            let builder = AmazonS3Builder::new().with_allow_http(true).with_bucket_name(bucket);
            let builder = options().fold(builder, |builder, (key, value)| {
                builder.with_config(key.parse().expect("an option"), value)
            });
            Arc::new(builder.build().expect("a bucket"))
        };
        let kind = Kind::Bucket {
            objects,
            prefix: prefix.to_owned(),
        };
        Self { settings, kind }
    }

    /// The lines of a route that say so, and `rules`.
    pub(crate) fn lines(&self, rules: &str) -> String {
        let mut lines = format!("store = {:?}\n{rules}\n", self.settings.url);
        if !self.settings.options.is_empty() {
            lines += "[routes.store_options]\n";
            for (key, value) in &self.settings.options {
                writeln!(lines, "{key} = {:?}", value.expose()).expect("a string takes everything");
            }
        }
        lines
    }

    /// The object at `key`.
    pub(crate) async fn object(&self, key: &str) -> Option<Bytes> {
        self.look(key).await.unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    /// The same, where the store may be in trouble.
    pub(crate) async fn look(&self, key: &str) -> object_store::Result<Option<Bytes>> {
        match &self.kind {
            Kind::Directory(directory) => Ok(read(&directory.path().join(key))),
            Kind::Bucket { objects, prefix } => match objects.get(&Name::from(format!("{prefix}/{key}"))).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Puts `bytes` at `key`, as another program would.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) {
        match &self.kind {
            Kind::Directory(directory) => std::fs::write(directory.path().join(key), bytes).expect("room for a file"),
            Kind::Bucket { objects, prefix } => {
                objects
                    .put(&Name::from(format!("{prefix}/{key}")), bytes.into())
                    .await
                    .expect("room for an object");
            }
        }
    }

    /// Removes the object at `key`, as a consumer does that has taken it.
    pub(crate) async fn take_away(&self, key: &str) {
        match &self.kind {
            Kind::Directory(directory) => std::fs::remove_file(directory.path().join(key)).expect("it is there"),
            Kind::Bucket { objects, prefix } => {
                objects
                    .delete(&Name::from(format!("{prefix}/{key}")))
                    .await
                    .expect("it is there");
            }
        }
    }

    /// The record of a session in a directory, which is named as on the wire.
    pub(crate) fn record(&self, session: &str) -> PathBuf {
        let id = session.trim_matches(['{', '}']).to_lowercase();
        match &self.kind {
            Kind::Directory(directory) => directory.path().join(format!(".bits-gateway/sessions/{id}/record")),
            Kind::Bucket { .. } => panic!("records in a bucket are no files"),
        }
    }

    /// What names it to a gateway.
    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The names of everything that is kept of a session, which is named as on the wire.
    pub(crate) async fn kept_of(&self, session: &str) -> Vec<String> {
        let id = session.trim_matches(['{', '}']).to_lowercase();
        let folder = format!(".bits-gateway/sessions/{id}");
        let mut names = match &self.kind {
            Kind::Directory(directory) => files(&directory.path().join(folder)),
            Kind::Bucket { objects, prefix } => {
                let folder = Name::from(format!("{prefix}/{folder}"));
                let listed: Vec<_> = objects.list(Some(&folder)).try_collect().await.expect("a list");
                let below = listed
                    .iter()
                    .filter_map(|object| object.location.as_ref().strip_prefix(folder.as_ref()));
                below.map(|name| name.trim_start_matches('/').to_owned()).collect()
            }
        };
        names.sort();
        names
    }
}

fn read(path: &Path) -> Option<Bytes> {
    match std::fs::read(path) {
        Ok(bytes) => Some(bytes.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// Every file below `folder`, by its path from there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(&inside).into_iter().flatten() {
            let path = entry.expect("a folder that nobody changes").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below");
                found.push(name.to_str().expect("a name of letters").to_owned());
            }
        }
    }
    found
}
