//! The register of sessions, for those who run the gateway: it lists what is kept in the stores, and cancels. It needs no gateway that
//! runs, and may be used beside any number of them.

use std::fmt;
use std::sync::Arc;

use futures::future;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tracing::info;

use super::overview::{Detail, Filter, Objects, Overview, Standing, more, overview};
use super::{Asked, Place, Refused, Rules, Uploads};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::Phase;
use crate::store::{Error, ListedSession, Stored};

/// Records that are read at the same time while a list is being made.
const READS: usize = 16;

/// The sessions of some routes.
#[derive(Clone)]
pub struct Register {
    uploads: Uploads,
    places: Arc<[Arc<Place>]>,
}

/// Why a session was not cancelled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotCancelled {
    /// There is none of this name.
    #[error("no such session")]
    NotFound,
    /// Its file is being published, which nobody can take back: what comes of it is known within minutes.
    #[error("its file is being published; ask again in a quarter of an hour")]
    Publishing,
    /// Its record is not for this version of the program.
    #[error("{0}")]
    Newer(String),
    /// Trouble that may pass.
    #[error("{0}")]
    Unavailable(String),
}

impl Register {
    /// The sessions in the stores of `places`, which are cancelled as `uploads` cancels them.
    pub fn new(uploads: Uploads, places: Vec<Arc<Place>>) -> Self {
        Self {
            uploads,
            places: places.into(),
        }
    }

    /// Whether there is a route of this name.
    pub fn has_route(&self, route: &str) -> bool {
        self.places.iter().any(|place| place.route == route)
    }

    /// The sessions that `filter` asks for, in the order in which the stores list them. Few are held at any time, however many there are.
    /// After an error nothing more comes.
    pub fn list(&self, filter: Filter) -> BoxStream<'static, Result<Overview, Error>> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let places = self.stores(filter.route.as_deref());
        let this = self.clone();
        let lists = stream::iter(places).then(move |place| {
            let (this, filter) = (this.clone(), filter.clone());
            async move {
                let now = place.store.now().await?;
                Ok::<_, Error>(this.list_store(place, filter, now))
            }
        });
        lists.try_flatten().take(limit).boxed()
    }

    fn list_store(
        self,
        place: Arc<Place>,
        filter: Filter,
        now: Timestamp,
    ) -> BoxStream<'static, Result<Overview, Error>> {
        let by_age = filter.clone();
        let listed = place
            .store
            .list_sessions()
            .try_filter(move |listed| future::ready(by_age.admits_age(listed.newest, now)));
        let read = move |listed: ListedSession| {
            let (this, place) = (self.clone(), Arc::clone(&place));
            async move { this.read(&place, &listed, now).await }
        };
        listed
            .map_ok(read)
            .try_buffered(READS)
            .try_filter_map(future::ok)
            .try_filter(move |overview| future::ready(filter.admits(overview)))
            .boxed()
    }

    /// What is told of a listed session; `None` when it is gone since.
    async fn read(&self, place: &Place, listed: &ListedSession, now: Timestamp) -> Result<Option<Overview>, Error> {
        let record = match listed.record {
            Some(_) => match place.store.read_record(listed.id).await {
                Ok(None) => return Ok(None),
                record => readable(record)?,
            },
            None => Ok(None),
        };
        Ok(Some(self.overview(
            place,
            listed.id,
            &Objects::from(listed),
            &record,
            now,
        )))
    }

    /// Everything about one session; `None` when no store has it.
    ///
    /// # Errors
    /// Trouble with a store.
    pub async fn show(&self, id: SessionId) -> Result<Option<Detail>, Error> {
        for place in self.stores(None) {
            // Objects first, the record second: the other way round, a part recorded in between would hide bytes.
            let listed = place.store.list_session(id).await?;
            if listed.is_empty() {
                continue;
            }
            let objects = Objects::from(&*listed);
            let record = readable(place.store.read_record(id).await)?;
            let now = place.store.now().await?;
            return Ok(Some(Detail {
                overview: self.overview(&place, id, &objects, &record, now),
                more: record.ok().flatten().map(|stored| more(&stored, &objects)),
            }));
        }
        Ok(None)
    }

    /// Ends a session as its client could by Cancel-Session, and tells what became of it. A file that is published stays; a session that
    /// had ended already is left as it is.
    ///
    /// # Errors
    /// [`NotCancelled`].
    pub async fn cancel(&self, id: SessionId) -> Result<Overview, NotCancelled> {
        let (place, stored) = self.find(id).await?;
        let record = stored.record;
        info!(target: "bits_gateway::session", event = "cancel asked for", by = "admin", session = %id, key = record.target.key, "session");
        let asked = Asked {
            principal: record.principal,
            target: record.target,
            url: record.url,
            client: None,
        };
        let cancelled = match self.uploads.cancel(&place, &asked, id).await {
            Ok(()) => self.show(id).await?,
            Err(Refused::SessionNotFound) => None,
            Err(refused) => {
                return Err(match self.find(id).await? {
                    (_, stored) if matches!(stored.record.phase, Phase::Publishing { .. }) => NotCancelled::Publishing,
                    _ => NotCancelled::Unavailable(refused.to_string()),
                });
            }
        };
        cancelled.map(|detail| detail.overview).ok_or(NotCancelled::NotFound)
    }

    /// Where the session is kept, by the rules of its route where it is still configured.
    async fn find(&self, id: SessionId) -> Result<(Arc<Place>, Stored), NotCancelled> {
        for place in self.stores(None) {
            if let Some(stored) = place.store.read_record(id).await? {
                let of_route = self.place_of(&place, &stored.record.target.route);
                let place = of_route.map_or(place, Arc::clone);
                return Ok((place, stored));
            }
        }
        Err(NotCancelled::NotFound)
    }

    /// One place for each store; with `route`, only where that one keeps its sessions.
    fn stores(&self, route: Option<&str>) -> Vec<Arc<Place>> {
        let mut stores: Vec<Arc<Place>> = Vec::new();
        for place in self.places.iter() {
            let wanted = route.is_none_or(|route| place.route == route);
            if wanted
                && !stores
                    .iter()
                    .any(|store| store.store.shares_sessions_with(&place.store))
            {
                stores.push(Arc::clone(place));
            }
        }
        stores
    }

    fn place_of(&self, near: &Place, route: &str) -> Option<&Arc<Place>> {
        self.places
            .iter()
            .find(|place| place.route == route && place.store.shares_sessions_with(&near.store))
    }

    fn overview(
        &self,
        place: &Place,
        id: SessionId,
        objects: &Objects,
        record: &Result<Option<Stored>, Error>,
        now: Timestamp,
    ) -> Overview {
        let record = record.as_ref().map(Option::as_ref);
        let rules: Option<&Rules> = match record {
            Ok(Some(stored)) => self
                .place_of(place, &stored.record.target.route)
                .map(|place| &place.rules),
            _ => None,
        };
        overview(id, place.store.to_string(), objects, record, rules, now)
    }
}

/// A record that can't be read is something to tell of; trouble with the store ends the list.
fn readable(record: Result<Option<Stored>, Error>) -> Result<Result<Option<Stored>, Error>, Error> {
    match record {
        Ok(found) => Ok(Ok(found)),
        Err(error @ (Error::Corrupt(_) | Error::Newer(_))) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Register")
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

impl From<Error> for NotCancelled {
    fn from(error: Error) -> Self {
        match error {
            Error::Newer(why) => Self::Newer(why),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl Overview {
    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        self.phase == Standing::Closed
    }
}
