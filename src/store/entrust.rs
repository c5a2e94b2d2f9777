//! Objects that somebody else reads and writes for us: files on this machine, or URLs that open one object for a while.

use std::time::Duration;

use http::Method;

use super::{Error, Key, Store};
use crate::session::ObjectTag;

/// An object as somebody else reaches it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entrusted {
    /// The path of a file on this machine, or a URL that opens just this object for a while: a secret, then.
    pub place: String,
    /// The bucket, as the URL of a store names it.
    pub bucket: String,
    /// The name of the object in the bucket.
    pub object: String,
}

impl Store {
    /// Where somebody else reads the object of `key`, for as long as `lasts` where it is a URL. `None` where there is no such way.
    ///
    /// # Errors
    /// Trouble with the store: credentials that can't sign.
    pub async fn lend(&self, key: &Key, lasts: Duration) -> Result<Option<Entrusted>, Error> {
        self.entrust(Method::GET, key, lasts).await
    }

    /// Where somebody else writes the object of `key`, for as long as `lasts` where it is a URL. `None` where there is no such way.
    ///
    /// # Errors
    /// Trouble with the store: credentials that can't sign, a directory that can't be made.
    pub async fn await_at(&self, key: &Key, lasts: Duration) -> Result<Option<Entrusted>, Error> {
        self.bucket_of(key).make_way(&self.path(key)?).await?;
        self.entrust(Method::PUT, key, lasts).await
    }

    /// What somebody else wrote as the object of `key`, safe from here on; `None` when he wrote nothing.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn adopt(&self, key: &Key) -> Result<Option<ObjectTag>, Error> {
        self.bucket_of(key).adopt(&self.path(key)?).await?;
        Ok(self.look(key).await?.map(|seen| seen.tag))
    }

    async fn entrust(&self, method: Method, key: &Key, lasts: Duration) -> Result<Option<Entrusted>, Error> {
        let (bucket, path) = (self.bucket_of(key), self.path(key)?);
        let place = match bucket.file(&path) {
            Some(file) => Some(file.to_str().map(ToOwned::to_owned).ok_or_else(|| {
                Error::BadName(format!("{} is not UTF-8, and can't be told to anybody", file.display()))
            })?),
            None => bucket.signed_url(method, &path, lasts).await?.map(String::from),
        };
        // The home of the sessions begins with the bucket they are in.
        let home = self.0.home.split(' ').next().unwrap_or_default();
        Ok(place.map(|place| Entrusted {
            place,
            bucket: home.to_owned(),
            object: path.to_string(),
        }))
    }
}
