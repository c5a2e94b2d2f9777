//! The knobs of the warehouse.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::units::SecretOr;
use crate::units::knob::{choices, settings};

/// What parts a store takes of a file that is stored in several.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartSizes {
    /// Of any length.
    Any,
    /// All alike but the last one.
    Equal,
}

choices!(PartSizes {
    Any => "any",
    Equal => "equal",
});

settings! {
    /// Where the files of a route are kept.
    pub struct Settings {
        /// Where the files go: "s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix", "file:///directory", a plain path,
        /// or "memory:///" (gone with the process). A directory is created when it is missing.
        #[key = "store"]
        #[required = "\"./bits-data\""]
        pub url: String = String::new(),
        /// Another place for sessions and unfinished bytes of small uploads, for stores with versioning, object lock or event rules.
        /// Written as `store`; the same kind of store.
        #[example = "\"s3://other-bucket/prefix\""]
        pub staging: Option<String> = None,
        /// Name of the folder in which sessions are kept, below `store` or `staging`. No URL reaches it. Sessions under way are lost
        /// to clients when it changes.
        pub reserved_prefix: String = ".bits-gateway/".to_owned(),
        /// How long the store keeps an unfinished multipart upload before it deletes it by itself, where that is configured: a
        /// lifecycle rule, or the store's own habit (MinIO 24h, R2 7d). `check --live` holds it against `session_timeout`. Where
        /// nobody can tell whether the store ended an upload or the file was published and taken away, the client sends it again.
        #[example = "\"7d\""]
        pub multipart_lifetime: Option<Duration> = None,
        /// What parts the store takes of a file that is stored in several. "any": of unequal length, which end where fragments do, so that
        /// large fragments are stored once. "equal": all alike but the last one; costs a request less for each large fragment. The default is
        /// "equal" for Cloudflare R2, which takes no others, and "any" everywhere else. Sessions under way keep what they began with.
        #[example = "\"equal\""]
        pub part_sizes: Option<PartSizes> = None,
        /// Options of the object_store library, by its own names (aws_endpoint, aws_region, azure_storage_account_name …). A value may
        /// be { file = "…" } (a file that not everybody may read) or { env = "…" }. Without credentials, the chain of the provider
        /// applies: environment, workload identity, instance role. "memory:///" takes one option: memory_size = "64MiB" makes it full
        /// when it holds that much. aws_checksum_algorithm = "crc64nvme" makes an S3 store refuse what was damaged on its way, at 0.08 s of a core
        /// for each GB; it is on towards Amazon's own endpoints, and "none" switches it off.
        #[key = "store_options"]
        #[example = "{ aws_endpoint = \"http://127.0.0.1:9000\", aws_allow_http = \"true\", aws_secret_access_key = { file = \"/run/secrets/s3\" } }"]
        pub options: BTreeMap<String, SecretOr<String>> = BTreeMap::new(),
    }
}
