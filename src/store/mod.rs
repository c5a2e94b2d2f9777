//! The warehouse: records, parts, tails and objects in a bucket. The only room that names `object_store`.

mod bucket;
mod error;
mod settings;

pub use error::{CompleteError, Error};
pub use settings::Settings;

/// One route's store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {}
