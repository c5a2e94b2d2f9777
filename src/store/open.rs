//! From settings to a store: URLs, options, and how long a connection may take.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientConfigKey, HttpClient, HttpConnector, ReqwestConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

use super::azure::AzureBucket;
use super::bucket::Bucket;
use super::error::told;
use super::google::GoogleBucket;
use super::keys::{Assembly, Layout};
use super::local::{LocalDirectory, OpenFailure};
use super::memory::MemoryBucket;
use super::s3::S3Bucket;
use super::terms::Gate;
use super::{Settings, Store};
use crate::clock::random_id;
use crate::metrics::Metrics;

/// How connections are made unless the options say otherwise. By object_store's names.
const CONNECTIONS: [(ClientConfigKey, &str); 6] = [
    // A download takes as long as its client does; object_store would end every request after 30 seconds.
    (ClientConfigKey::Timeout, "30days"),
    (ClientConfigKey::ConnectTimeout, "5s"),
    // From the first byte of a request to the first byte of its answer, and between any two reads after it. A part of 8 MiB is sent
    // within this time at 70 KB/s.
    (ClientConfigKey::ReadTimeout, "120s"),
    (ClientConfigKey::PoolIdleTimeout, "20s"),
    (ClientConfigKey::PoolMaxIdlePerHost, "64"),
    (
        ClientConfigKey::UserAgent,
        concat!("bits-gateway/", env!("CARGO_PKG_VERSION")),
    ),
];

/// What the endpoints of Cloudflare R2 have in common.
const R2: &str = ".r2.cloudflarestorage.com";

/// How often object_store repeats a request by itself: not for longer than leaves an answer within the five minutes that a client waits.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_secs(40),
    }
}

/// Why a store can't be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// Not as it is configured.
    #[error("the store {url} cannot be opened: {why}")]
    Settings {
        /// Which one.
        url: String,
        /// A sentence for whoever wrote the settings.
        why: String,
    },
    /// Another process has it. That may end by itself.
    #[error("the store {url} cannot be opened: {why}")]
    InUse {
        /// Which one.
        url: String,
        /// A sentence for whoever started both.
        why: String,
    },
    /// It is only in the memory of the process that serves it, or a directory that nobody has made yet.
    #[error("the store {url} holds nothing: {why}")]
    Nothing {
        /// Which one.
        url: String,
        /// Why.
        why: &'static str,
    },
}

impl OpenError {
    /// About the store at `url`, for `map_err`.
    fn about<W: Into<Why>>(url: &str) -> impl FnOnce(W) -> Self {
        let url = url.to_owned();
        move |why| match why.into() {
            Why::Settings(why) => Self::Settings { url, why },
            Why::InUse(why) => Self::InUse { url, why },
        }
    }
}

/// The same before it is known which store it is about.
enum Why {
    Settings(String),
    InUse(String),
}

impl From<String> for Why {
    fn from(why: String) -> Self {
        Self::Settings(why)
    }
}

impl From<OpenFailure> for Why {
    fn from(failure: OpenFailure) -> Self {
        let why = failure.to_string();
        match failure {
            OpenFailure::InUse { .. } => Self::InUse(why),
            OpenFailure::Unusable { .. } | OpenFailure::Unsuitable { .. } => Self::Settings(why),
        }
    }
}

/// Options by object_store's names, secrets included.
type Options = BTreeMap<String, String>;

impl Store {
    /// Opens the store that the settings name and counts its requests. Asks no remote store anything: [`Store::probe`] does. Blocks for a
    /// moment when the store is a local directory.
    ///
    /// # Errors
    /// [`OpenError`], with a sentence for a person.
    pub fn open(settings: &Settings, metrics: &Metrics) -> Result<Self, OpenError> {
        let place = Place::parse(&settings.url).map_err(OpenError::about(&settings.url))?;
        let staging_url = settings.staging.as_ref().unwrap_or(&settings.url);
        let staging = Place::parse(staging_url).map_err(OpenError::about(staging_url))?;
        let layout = Layout::new(&place.prefix, &staging.prefix, &settings.reserved_prefix);
        let layout = layout.map_err(|bad| OpenError::about(&settings.url)(bad.to_string()))?;

        let exposed = settings
            .options
            .iter()
            .map(|(key, value)| (key.clone(), value.expose().to_owned()));
        let options: Options = exposed.collect();
        let destination = place
            .open(&options, layout.assembly())
            .map_err(OpenError::about(&settings.url))?;
        let sessions = if staging.bucket == place.bucket {
            Arc::clone(&destination)
        } else {
            staging
                .open(&options, layout.assembly())
                .map_err(OpenError::about(staging_url))?
        };
        let (bucket, prefix) = (staging.home(&options), staging.prefix.trim_matches('/'));
        let home = format!("{bucket} {prefix} {}", settings.reserved_prefix);
        let multipart_lifetime = settings.multipart_lifetime.or(place.bucket.multipart_lifetime());
        let store = Self::over(
            settings.url.clone(),
            destination,
            sessions,
            layout,
            multipart_lifetime,
            settings.part_sizes,
        );
        Ok(store.observed(home, metrics))
    }

    /// The same, for somebody who only wants to see what is there: makes no directory.
    ///
    /// # Errors
    /// As [`Store::open`]; [`OpenError::Nothing`] for what is not there, or only within another process.
    pub fn open_existing(settings: &Settings, metrics: &Metrics) -> Result<Self, OpenError> {
        let urls = [Some(&settings.url), settings.staging.as_ref()];
        for url in urls.into_iter().flatten() {
            let nothing = |why| OpenError::Nothing { url: url.clone(), why };
            match Place::parse(url).map(|place| place.bucket) {
                Ok(BucketName::Memory) => return Err(nothing("it is in the memory of the gateway that serves it")),
                Ok(BucketName::Directory(directory)) if !directory.is_dir() => {
                    return Err(nothing("there is no such directory"));
                }
                // What is wrong with the others is told when they are opened.
                _ => {}
            }
        }
        Self::open(settings, metrics)
    }
}

/// What a URL of a store names.
struct Place {
    bucket: BucketName,
    /// Below it.
    prefix: String,
}

#[derive(Eq, PartialEq)]
enum BucketName {
    S3(String),
    Google(String),
    Azure { container: String, account: Option<String> },
    Memory,
    Directory(std::path::PathBuf),
}

impl BucketName {
    /// After how long every store of this kind ends an unfinished multipart upload by itself.
    const fn multipart_lifetime(&self) -> Option<Duration> {
        match self {
            Self::Azure { .. } => Some(Duration::from_secs(7 * 24 * 3600)),
            Self::S3(_) | Self::Google(_) | Self::Memory | Self::Directory(_) => None,
        }
    }
}

impl Place {
    /// `s3://bucket/prefix`, `gs://…`, `az://container/prefix`, `memory:///`, `file:///directory`, or the plain path of a directory.
    fn parse(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Ok(Self {
                bucket: BucketName::Directory(text.into()),
                prefix: String::new(),
            });
        }
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.query().is_some() || url.fragment().is_some() || url.password().is_some() {
            return Err("it holds more than a bucket and a prefix".to_owned());
        }
        let prefix = percent_encoding::percent_decode_str(url.path()).decode_utf8();
        let prefix = prefix.map_err(|_| "its prefix is not UTF-8".to_owned())?.into_owned();
        let host = url.host_str().filter(|host| !host.is_empty()).map(ToOwned::to_owned);
        let named = || host.clone().ok_or_else(|| "it names no bucket".to_owned());
        let bucket = match url.scheme() {
            "s3" | "s3a" => BucketName::S3(named()?),
            "gs" => BucketName::Google(named()?),
            "az" | "azure" | "abfs" | "abfss" => azure_name(url.username(), named()?),
            "memory" => BucketName::Memory,
            "file" => {
                let directory = url.to_file_path().map_err(|()| "it names no directory".to_owned())?;
                return Ok(Self {
                    bucket: BucketName::Directory(directory),
                    prefix: String::new(),
                });
            }
            other => {
                return Err(format!(
                    "{other}:// is none of s3://, gs://, az://, memory:// and file://"
                ));
            }
        };
        Ok(Self { bucket, prefix })
    }

    /// Where this is, however its URL was written: the bucket, and what decides on whose it is.
    fn home(&self, options: &Options) -> String {
        let whose = options.iter().filter(|(name, _)| {
            let name = name.to_ascii_lowercase();
            ["endpoint", "base_url", "account_name"]
                .iter()
                .any(|word| name.contains(word))
        });
        let whose: Vec<_> = whose.map(|(name, value)| format!("{name}={value}")).collect();
        let bucket = match &self.bucket {
            BucketName::S3(bucket) => format!("s3://{bucket}"),
            BucketName::Google(bucket) => format!("gs://{bucket}"),
            BucketName::Azure { container, account } => {
                format!("az://{container}@{}", account.as_deref().unwrap_or(""))
            }
            // Each one is a store of its own.
            BucketName::Memory => format!("memory:///{}", random_id()),
            BucketName::Directory(directory) => {
                let directory = directory.canonicalize().or_else(|_| std::path::absolute(directory));
                format!("file://{}", directory.unwrap_or_default().display())
            }
        };
        format!("{bucket} {}", whose.join(" "))
    }

    fn open(&self, options: &Options, assembly: Assembly) -> Result<Arc<dyn Bucket>, Why> {
        let connector = Connector::over(ReqwestConnector::default());
        match &self.bucket {
            BucketName::S3(bucket) => Ok(Arc::new(s3(bucket, options, &connector)?)),
            BucketName::Google(bucket) => Ok(Arc::new(google(bucket, options, &connector, assembly)?)),
            BucketName::Azure { container, account } => {
                Ok(Arc::new(azure(container, account.as_deref(), options, &connector)?))
            }
            BucketName::Memory => Ok(Arc::new(MemoryBucket::with(options)?)),
            BucketName::Directory(directory) => {
                none_of(options)?;
                Ok(Arc::new(LocalDirectory::open(directory)?))
            }
        }
    }
}

/// Azure's two ways to write it: the container alone, or `container@account.…`.
fn azure_name(user: &str, host: String) -> BucketName {
    if user.is_empty() {
        return BucketName::Azure {
            container: host,
            account: None,
        };
    }
    let account = host.split('.').next().unwrap_or_default().to_owned();
    BucketName::Azure {
        container: user.to_owned(),
        account: Some(account),
    }
}

fn none_of(options: &Options) -> Result<(), String> {
    match options.keys().next() {
        Some(key) => Err(format!("it takes no options, but there is `{key}`")),
        None => Ok(()),
    }
}

/// Makes connections, and keeps the last ones made: a builder makes those for its store last, and requests of our own go over them.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    via: Arc<dyn HttpConnector>,
    last: Arc<Mutex<Option<HttpClient>>>,
}

impl Connector {
    pub(super) fn over(via: impl HttpConnector) -> Self {
        // Without a provider of its own, TLS takes the one of the process. Whoever installed one before us is right too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            via: Arc::new(via),
            last: Arc::default(),
        }
    }

    fn client(&self) -> Result<HttpClient, String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone().ok_or_else(|| "no connections were made".to_owned())
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Gate::before(self.via.connect(options)?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }
}

/// The options as the keys of one kind of store.
fn keys<K: FromStr>(options: &Options, kind: &str) -> Result<Vec<(K, String)>, String> {
    let parsed = options.iter().map(|(key, value)| {
        let unknown = |_| format!("`{key}` is no option that object_store knows for {kind}");
        Ok((key.to_ascii_lowercase().parse().map_err(unknown)?, value.clone()))
    });
    parsed.collect()
}

/// Whether an option is set to a word for yes.
fn is_on(value: Option<String>) -> bool {
    let on = |value: String| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "y");
    value.is_some_and(on)
}

pub(super) fn s3(bucket: &str, options: &Options, connector: &Connector) -> Result<S3Bucket, String> {
    use AmazonS3ConfigKey as K;
    let mut given: Vec<(K, String)> = keys(options, "S3")?;
    let is_without_checksum = |(key, value): &(K, String)| *key == K::Checksum && value.eq_ignore_ascii_case("none");
    let wants_no_checksum = given.iter().any(is_without_checksum);
    given.retain(|option| !is_without_checksum(option));
    let is_given = |key: K| given.iter().any(|(given, _)| *given == key);
    if is_given(K::Bucket) {
        return Err("the bucket is named by the URL, not by an option".to_owned());
    }
    // With keys of its own a route takes nothing from the environment: a session token there would belong to other keys.
    let mut builder = if is_given(K::AccessKeyId) {
        AmazonS3Builder::new()
    } else {
        AmazonS3Builder::from_env()
    };
    builder = CONNECTIONS.into_iter().fold(builder, |builder, (key, value)| {
        builder.with_config(K::Client(key), value)
    });
    builder = given
        .iter()
        .fold(builder, |builder, (key, value)| builder.with_config(*key, value));

    let endpoint = builder
        .get_config_value(&K::S3Endpoint)
        .or_else(|| builder.get_config_value(&K::Endpoint));
    // It refuses an object whose parts are not all of one length, but for the last one.
    let alike = endpoint.as_ref().is_some_and(|endpoint| endpoint.contains(R2));
    let is_amazon = endpoint.is_none();
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    if plain && !is_given(K::Client(ClientConfigKey::AllowHttp)) {
        builder = builder.with_allow_http(true);
    }
    // TLS protects what is sent as well as a signature over it does, at a tenth of the cost.
    if !plain && !is_given(K::UnsignedPayload) {
        builder = builder.with_unsigned_payload(true);
    }
    match builder.get_config_value(&K::Checksum) {
        Some(algorithm) if algorithm.eq_ignore_ascii_case("crc64nvme") => {}
        Some(algorithm) => {
            return Err(format!(
                "aws_checksum_algorithm = {algorithm:?} is not supported, only \"crc64nvme\" and \"none\": the sums of 200 parts, \
                 which others need at the end, don't fit into a record"
            ));
        }
        // Others may not know it. What goes over plain HTTP is signed, and so compared.
        None if is_amazon && !wants_no_checksum => builder = builder.with_checksum_algorithm(Checksum::CRC64NVME),
        None => {}
    }
    if is_on(builder.get_config_value(&K::S3Express)) {
        return Err("directory buckets (S3 Express) are not supported".to_owned());
    }
    if builder
        .get_config_value(&K::ConditionalPut)
        .is_some_and(|mode| mode == "disabled")
    {
        return Err("aws_conditional_put must not be disabled: sessions are kept by conditional writes".to_owned());
    }
    let anonymous = is_on(builder.get_config_value(&K::SkipSignature));
    if anonymous && !is_given(K::AccessKeyId) {
        // Nobody sees them, but URLs are made by the signer.
        builder = builder
            .with_access_key_id("anonymous")
            .with_secret_access_key("anonymous");
    }
    let builder = builder
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(connector.clone());
    let store = builder.build().map_err(|error| told(&error))?;
    Ok(S3Bucket::new(store, connector.client()?, bucket, anonymous, alike))
}

pub(super) fn google(
    bucket: &str,
    options: &Options,
    connector: &Connector,
    assembly: Assembly,
) -> Result<GoogleBucket, String> {
    use GoogleConfigKey as K;
    let given: Vec<(K, String)> = keys(options, "Google Cloud Storage")?;
    let is_given = |key: K| given.iter().any(|(given, _)| *given == key);
    if is_given(K::Bucket) {
        return Err("the bucket is named by the URL, not by an option".to_owned());
    }
    let own = [
        K::ServiceAccount,
        K::ServiceAccountKey,
        K::ApplicationCredentials,
        K::BearerToken,
    ];
    let own = own.into_iter().any(is_given);
    let mut builder = if own {
        GoogleCloudStorageBuilder::new()
    } else {
        GoogleCloudStorageBuilder::from_env()
    };
    builder = CONNECTIONS.into_iter().fold(builder, |builder, (key, value)| {
        builder.with_config(K::Client(key), value)
    });
    builder = given
        .iter()
        .fold(builder, |builder, (key, value)| builder.with_config(*key, value));
    let base = builder.get_config_value(&K::BaseUrl);
    let base = base.unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
    let base = Url::parse(&base).map_err(|error| format!("google_base_url: {error}"))?;
    if is_on(builder.get_config_value(&K::SkipSignature)) {
        return Err("google_skip_signature is not supported: uploads need a token".to_owned());
    }
    let builder = builder
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(connector.clone());
    let store = builder.build().map_err(|error| told(&error))?;
    Ok(GoogleBucket::new(
        store,
        connector.client()?,
        base,
        bucket.to_owned(),
        assembly,
    ))
}

pub(super) fn azure(
    container: &str,
    account: Option<&str>,
    options: &Options,
    connector: &Connector,
) -> Result<AzureBucket, String> {
    use AzureConfigKey as K;
    let mut given: Vec<(K, String)> = keys(options, "Azure")?;
    if given
        .iter()
        .any(|(key, value)| *key == K::UseEmulator && is_on(Some(value.clone())))
    {
        given.retain(|(key, _)| *key != K::UseEmulator);
        emulator(&mut given);
    }
    let is_given = |key: K| given.iter().any(|(given, _)| *given == key);
    if is_given(K::ContainerName) {
        return Err("the container is named by the URL, not by an option".to_owned());
    }
    let own = [K::AccessKey, K::SasKey, K::Token, K::ClientSecret]
        .into_iter()
        .any(is_given);
    let mut builder = if own {
        MicrosoftAzureBuilder::new()
    } else {
        MicrosoftAzureBuilder::from_env()
    };
    builder = CONNECTIONS.into_iter().fold(builder, |builder, (key, value)| {
        builder.with_config(K::Client(key), value)
    });
    builder = given
        .iter()
        .fold(builder, |builder, (key, value)| builder.with_config(*key, value));
    builder = account.into_iter().fold(builder, MicrosoftAzureBuilder::with_account);

    for (key, what) in [
        (K::SkipSignature, "azure_skip_signature"),
        (K::UseFabricEndpoint, "azure_use_fabric_endpoint"),
    ] {
        if is_on(builder.get_config_value(&key)) {
            return Err(format!("{what} is not supported"));
        }
    }
    if builder.get_config_value(&K::EncryptionKey).is_some() {
        return Err("keys of your own (azure_encryption_key) are not supported".to_owned());
    }
    let account = builder.get_config_value(&K::AccountName);
    let account = account.ok_or_else(|| "azure_storage_account_name is missing".to_owned())?;
    let endpoint = builder.get_config_value(&K::Endpoint);
    let endpoint = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    if endpoint.starts_with("http://") && !is_given(K::Client(ClientConfigKey::AllowHttp)) {
        builder = builder.with_allow_http(true);
    }
    let mut url = Url::parse(&endpoint).map_err(|error| format!("azure_storage_endpoint: {error}"))?;
    url.path_segments_mut()
        .map_err(|()| "azure_storage_endpoint is no URL with a host".to_owned())?
        .pop_if_empty()
        .push(container);
    let builder = builder
        .with_container_name(container)
        .with_retry(retries())
        .with_http_connector(connector.clone());
    let store = builder.build().map_err(|error| told(&error))?;
    Ok(AzureBucket::new(store, connector.client()?, account, url))
}

/// The emulator (Azurite) as an ordinary account: object_store's own switch for it ignores the endpoint. Account and key are those
/// that every emulator has, and are public.
fn emulator(given: &mut Vec<(AzureConfigKey, String)>) {
    use AzureConfigKey as K;
    let usual = [
        (K::AccountName, "devstoreaccount1"),
        (K::Endpoint, "http://127.0.0.1:10000/devstoreaccount1"),
        (
            K::AccessKey,
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        ),
    ];
    for (key, value) in usual {
        if given.iter().all(|(given, _)| *given != key) {
            given.push((key, value.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SecretOr;

    fn refusal(url: &str, options: &[(&str, &str)]) -> String {
        let options = options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), SecretOr::Plain((*value).to_owned())));
        let settings = Settings {
            url: url.to_owned(),
            options: options.collect(),
            ..Settings::default()
        };
        Store::open(&settings, &Metrics::new([]))
            .expect_err("a refusal")
            .to_string()
    }

    const S3_KEYS: [(&str, &str); 2] = [("aws_access_key_id", "key"), ("aws_secret_access_key", "very secret")];

    #[test]
    fn urls_name_a_bucket_and_a_prefix() {
        for (url, bucket, prefix) in [
            ("s3://b", BucketName::S3("b".to_owned()), ""),
            ("s3://b/p/q/", BucketName::S3("b".to_owned()), "/p/q/"),
            ("s3://b/with%20space", BucketName::S3("b".to_owned()), "/with space"),
            ("gs://b/p", BucketName::Google("b".to_owned()), "/p"),
            ("az://c/p", azure_name("", "c".to_owned()), "/p"),
            (
                "abfss://c@a.dfs.core.windows.net/p",
                azure_name("c", "a.dfs.core.windows.net".to_owned()),
                "/p",
            ),
            ("memory:///p", BucketName::Memory, "/p"),
            ("file:///a/b%20c", BucketName::Directory("/a/b c".into()), ""),
            ("./bits-data", BucketName::Directory("./bits-data".into()), ""),
            ("/var/lib/bits", BucketName::Directory("/var/lib/bits".into()), ""),
        ] {
            let place = Place::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert!(place.bucket == bucket, "{url}");
            assert_eq!(place.prefix, prefix, "{url}");
        }
        let BucketName::Azure { container, account } = azure_name("c", "a.dfs.core.windows.net".to_owned()) else {
            panic!("Azure's");
        };
        assert_eq!((container.as_str(), account.as_deref()), ("c", Some("a")));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence_that_says_why() {
        for (url, options, why) in [
            ("ftp://host/dir", &[][..], "none of s3://"),
            ("s3://", &[], "no bucket"),
            ("s3://b?x=y", &S3_KEYS, "more than a bucket"),
            ("s3://b/a/../../c//d", &S3_KEYS, "empty or dot segments"),
            ("s3://b", &[("aws_regoin", "x")], "`aws_regoin` is no option"),
            ("s3://b", &[("aws_bucket", "x")], "named by the URL"),
            ("s3://b", &[("aws_access_key_id", "key")], "SecretAccessKey"),
            (
                "s3://b",
                &[S3_KEYS[0], S3_KEYS[1], ("aws_checksum_algorithm", "sha256")],
                "don't fit into a record",
            ),
            (
                "s3://b",
                &[S3_KEYS[0], S3_KEYS[1], ("aws_conditional_put", "disabled")],
                "conditional writes",
            ),
            (
                "s3://b",
                &[S3_KEYS[0], S3_KEYS[1], ("aws_s3_express", "true")],
                "not supported",
            ),
            (
                "az://c",
                &[("azure_storage_account_key", "a2V5")],
                "azure_storage_account_name is missing",
            ),
            (
                "gs://b",
                &[("google_bearer_token", "t"), ("google_skip_signature", "true")],
                "need a token",
            ),
            ("memory:///", &[("aws_region", "x")], "`aws_region`"),
            ("file:///a", &[("aws_region", "x")], "takes no options"),
        ] {
            let told = refusal(url, options);
            assert!(told.contains(why), "{url}: {told}");
            assert!(told.contains(url), "{url}: {told}");
            assert!(!told.contains("very secret"), "{told}");
        }
    }

    #[test]
    fn the_emulator_is_an_ordinary_account_elsewhere() {
        let options = Options::from([
            ("azure_storage_use_emulator".to_owned(), "true".to_owned()),
            (
                "azure_storage_endpoint".to_owned(),
                "http://127.0.0.1:1/devstoreaccount1".to_owned(),
            ),
        ]);
        azure("c", None, &options, &Connector::over(ReqwestConnector::default())).unwrap();
    }

    #[tokio::test]
    async fn sessions_may_lie_in_a_place_of_their_own() {
        let place = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("file://{}", place.path().join(name).display());
        let settings = Settings {
            url: url("files"),
            staging: Some(url("sessions")),
            ..Settings::default()
        };
        let store = Store::open(&settings, &Metrics::new([])).unwrap();
        let id = crate::bits::SessionId::new(random_id());
        store.create_tail(id, 0, vec!["abc".into()]).await.unwrap();
        let before = crate::session::Before::Absent;
        store
            .put_file(
                &crate::store::Key::parse("file").unwrap(),
                id,
                vec!["abc".into()],
                crate::store::Terms::whenever(&before),
            )
            .await
            .unwrap();
        let tail = format!("sessions/.bits-gateway/sessions/{}/tail", id.as_key());
        assert!(place.path().join(tail).is_dir());
        assert!(place.path().join("files/file").is_file());
        assert!(!place.path().join("files/.bits-gateway/sessions").exists());
    }
}
