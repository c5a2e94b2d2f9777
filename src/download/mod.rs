//! Downloads: GET and HEAD of what was uploaded, with ranges and conditions (RFC 9110; MC-BUP 2.3, 3.5).
//!
//! An answer is planned from one look at the file, and its bytes are read on the condition that the file still is what was
//! seen: a file that is replaced meanwhile is never mixed into the answer. Whatever can go wrong before the first byte is told
//! with a status, because the head is sent only once the store has agreed to the first read and the memory is there.

mod body;
mod conditional;
mod multipart;
mod plan;
mod range;
mod settings;
mod source;

pub use body::{Body, Broken};
pub use plan::{FileSeen, Piece, Plan, Verb, plan};
pub use range::{MAX_RANGES, Ranges, Selection};
pub use settings::Settings;

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue};

use crate::budget::{Budget, Exhausted, Reservation};
use crate::clock::random_id;
use crate::store::{Error, Key, Store};
use source::{Destination, Source};

/// The most that a running download holds in memory: the piece that is being sent, and the next one of a local file.
const HELD: u64 = 2 << 20;

/// After what time a client that was told to come back may do so.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How often an answer is planned: a file that was replaced during both attempts is replaced all the time.
const ATTEMPTS: usize = 2;

/// Serves what was uploaded. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Downloads {
    budget: Budget,
    /// What downloads may take of the budget. A client may read as slowly as it likes, and its download holds memory all the
    /// time: without a share of their own, slow readers would in the end keep out every upload.
    share: Budget,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Response {
    /// 200, 206, 304, 412 or 416.
    pub status: u16,
    /// Names in the spelling of the wire. Content-Length is among them on all but 304; Date is not.
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// Just as many bytes as Content-Length says; none for HEAD and 304.
    pub body: Body,
}

/// Why a request has no answer from the file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// There is no such file: 404.
    #[error("there is no such file")]
    NotFound,
    /// It may work later: 503 with Retry-After.
    #[error("{why}")]
    Busy {
        /// When the client may come back.
        retry_after: Duration,
        /// For the log.
        why: String,
    },
    /// An admin has to act first: 500. The text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl Downloads {
    /// Downloads that hold at most half of `budget`, and wait for their part of it for `wait` at most.
    pub fn new(budget: Budget, wait: Duration) -> Self {
        let share = Budget::new((budget.total() / 2).max(HELD), wait);
        Self { budget, share }
    }

    /// Answers a GET or HEAD of `key` with these request headers.
    ///
    /// The store has agreed to the first read by then, and the memory for the body is held until the body is dropped.
    ///
    /// # Errors
    /// [`Failure`]: nothing has been sent by then. A key that `store` does not admit is not found.
    pub async fn answer(&self, store: &Store, key: &Key, verb: Verb, headers: &HeaderMap) -> Result<Response, Failure> {
        if store.admits(key).is_err() {
            return Err(Failure::NotFound);
        }
        let destination = Destination {
            store: store.clone(),
            key: key.clone(),
        };
        self.answer_from(Arc::new(destination), verb, headers).await
    }

    async fn answer_from(&self, source: Arc<dyn Source>, verb: Verb, headers: &HeaderMap) -> Result<Response, Failure> {
        for _ in 0..ATTEMPTS {
            let (tag, modified) = source.look().await?.ok_or(Failure::NotFound)?;
            let seen = FileSeen {
                size: tag.size,
                etag: tag.etag.clone(),
                modified,
            };
            let plan = plan(verb, headers, &seen, random_id);
            let held = self.hold(&plan.pieces).await?;
            match Body::open(Arc::clone(&source), tag, plan.pieces, held).await {
                Ok(body) => {
                    return Ok(Response {
                        status: plan.status,
                        headers: plan.headers,
                        body,
                    });
                }
                // Replaced or removed since the look: whatever is there now is the answer.
                Err(Error::Conflict | Error::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy(
            "the file was replaced again and again while its download began".to_owned(),
        ))
    }

    /// Reserves what a body of `pieces` holds in memory at a time. Once for the whole body: a download that had to wait in its
    /// middle could no longer say why.
    async fn hold(&self, pieces: &[Piece]) -> Result<Vec<Reservation>, Exhausted> {
        let longest = pieces.iter().map(|piece| match piece {
            Piece::File(range) => range.end.saturating_sub(range.start),
            Piece::Text(_) => 0,
        });
        let bytes = longest.max().unwrap_or(0).min(HELD);
        if bytes == 0 {
            return Ok(Vec::new());
        }
        // The share first: one that waits for another download must not keep memory from an upload.
        let share = self.share.reserve(bytes).await?;
        let held = self.budget.reserve(bytes).await?;
        self.budget.take_elsewhere(bytes);
        Ok(vec![share, held])
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound | Error::BadName(_) => Self::NotFound,
            Error::Denied(_) | Error::Corrupt(_) | Error::Newer(_) => Self::Internal(error.to_string()),
            Error::Unavailable(_) | Error::Conflict | Error::UnknownUpload | Error::Full(_) => busy(error.to_string()),
        }
    }
}

impl From<Exhausted> for Failure {
    fn from(exhausted: Exhausted) -> Self {
        busy(exhausted.to_string())
    }
}

fn busy(why: String) -> Failure {
    Failure::Busy {
        retry_after: RETRY_AFTER,
        why,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::ops::Range;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures::executor::block_on;
    use futures::stream::{self, StreamExt};
    use http::header::HeaderName;
    use proptest::prelude::*;

    use super::*;
    use crate::bits::SessionId;
    use crate::clock::Timestamp;
    use crate::session::{Before, ObjectTag};
    use crate::store::Terms;
    use source::Pieces;

    /// A destination in memory that misbehaves on demand.
    #[derive(Default)]
    struct Shelf(Mutex<State>);

    #[derive(Clone, Default)]
    struct State {
        /// The bytes, and how often they were replaced.
        file: Option<(Vec<u8>, u64)>,
        /// Bytes in a piece; zero is the whole range.
        piece: usize,
        /// What happens right before each read.
        accidents: VecDeque<Accident>,
        /// What the next look says instead of the truth.
        blind: Option<Error>,
        reads: Vec<Range<u64>>,
        /// One more reference for each stream that lives.
        streams: Arc<()>,
    }

    #[derive(Clone)]
    enum Accident {
        None,
        Replaced(&'static [u8]),
        Removed,
        Fails(Error),
        EndsEarly,
        GoesOn,
        BreaksOff,
    }

    impl Shelf {
        fn with(bytes: &[u8]) -> Arc<Self> {
            Arc::new(Self(Mutex::new(State {
                file: Some((bytes.to_vec(), 0)),
                piece: 3,
                ..State::default()
            })))
        }

        fn after(bytes: &[u8], accidents: &[Accident]) -> Arc<Self> {
            let shelf = Self::with(bytes);
            shelf.0.lock().unwrap().accidents = accidents.iter().cloned().collect();
            shelf
        }

        fn blind(error: Error) -> Arc<Self> {
            let shelf = Self::with(b"0123456789");
            shelf.0.lock().unwrap().blind = Some(error);
            shelf
        }

        fn reads(&self) -> Vec<Range<u64>> {
            self.0.lock().unwrap().reads.clone()
        }

        fn streams(&self) -> usize {
            Arc::strong_count(&self.0.lock().unwrap().streams) - 1
        }
    }

    impl State {
        fn tag(&self) -> Option<(ObjectTag, Timestamp)> {
            let (bytes, generation) = self.file.as_ref()?;
            let tag = ObjectTag {
                etag: Some(format!("\"{generation}\"")),
                version: None,
                size: bytes.len() as u64,
            };
            Some((tag, Timestamp::from_millis(generation * 1000)))
        }

        fn meets(&mut self, accident: &Accident) -> Result<(), Error> {
            match accident {
                Accident::Replaced(bytes) => {
                    let generation = self.file.as_ref().map_or(0, |(_, generation)| *generation) + 1;
                    self.file = Some((bytes.to_vec(), generation));
                }
                Accident::Removed => self.file = None,
                Accident::Fails(error) => return Err(error.clone()),
                Accident::None | Accident::EndsEarly | Accident::GoesOn | Accident::BreaksOff => {}
            }
            Ok(())
        }
    }

    #[async_trait]
    impl Source for Shelf {
        async fn look(&self) -> Result<Option<(ObjectTag, Timestamp)>, Error> {
            let mut state = self.0.lock().unwrap();
            match state.blind.take() {
                Some(error) => Err(error),
                None => Ok(state.tag()),
            }
        }

        async fn read(&self, range: Range<u64>, tag: &ObjectTag) -> Result<Pieces, Error> {
            let mut state = self.0.lock().unwrap();
            let accident = state.accidents.pop_front().unwrap_or(Accident::None);
            state.meets(&accident)?;
            match state.tag() {
                None => return Err(Error::NotFound),
                Some((now, _)) if now != *tag => return Err(Error::Conflict),
                Some(_) => {}
            }
            state.reads.push(range.clone());
            let file = &state.file.as_ref().unwrap().0;
            let mut bytes = file[range.start as usize..range.end as usize].to_vec();
            match accident {
                Accident::EndsEarly => drop(bytes.pop()),
                Accident::GoesOn => bytes.push(b'!'),
                _ => {}
            }
            let piece = if state.piece == 0 { bytes.len() } else { state.piece };
            let mut pieces: Vec<Result<Bytes, Error>> = Vec::new();
            for piece in bytes.chunks(piece) {
                pieces.extend([Ok(Bytes::new()), Ok(Bytes::copy_from_slice(piece))]);
            }
            if matches!(accident, Accident::BreaksOff) {
                pieces.truncate(2);
                pieces.push(Err(Error::Unavailable("reset".to_owned())));
            }
            let alive = Arc::clone(&state.streams);
            Ok(stream::iter(pieces)
                .map(move |piece| {
                    let _ = &alive;
                    piece
                })
                .boxed())
        }
    }

    fn downloads() -> Downloads {
        Downloads::new(Budget::new(64 << 20, Duration::from_secs(60)), Duration::from_secs(60))
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        lines.iter().map(line).collect()
    }

    async fn get(shelf: &Arc<Shelf>, lines: &[(&'static str, &str)]) -> Result<Response, Failure> {
        let source: Arc<dyn Source> = shelf.clone();
        downloads().answer_from(source, Verb::Get, &headers(lines)).await
    }

    fn header<'a>(response: &'a Response, name: &str) -> &'a str {
        let (_, value) = response.headers.iter().find(|(header, _)| *header == name).unwrap();
        value.to_str().unwrap()
    }

    /// What comes until the end, or until it breaks.
    async fn drain(body: &mut Body) -> (Vec<u8>, Result<(), Broken>) {
        let mut all = Vec::new();
        loop {
            match body.next().await {
                Ok(Some(bytes)) => {
                    assert!(!bytes.is_empty());
                    all.extend_from_slice(&bytes);
                }
                Ok(None) => return (all, Ok(())),
                Err(broken) => return (all, Err(broken)),
            }
        }
    }

    async fn whole(mut response: Response) -> Vec<u8> {
        let (bytes, end) = drain(&mut response.body).await;
        end.unwrap();
        assert_eq!(header(&response, "Content-Length"), bytes.len().to_string());
        bytes
    }

    #[tokio::test]
    async fn a_file_is_read_once_and_sent_whole() {
        let shelf = Shelf::with(b"0123456789");
        let response = get(&shelf, &[]).await.unwrap();
        assert_eq!((response.status, header(&response, "ETag")), (200, "\"0\""));
        assert_eq!(whole(response).await, b"0123456789");
        assert_eq!(shelf.reads().as_slice(), std::slice::from_ref(&(0..10)));
    }

    #[tokio::test]
    async fn only_the_bytes_of_a_range_are_read() {
        let shelf = Shelf::with(b"0123456789");
        let response = get(&shelf, &[("range", "bytes=-4")]).await.unwrap();
        assert_eq!(
            (response.status, header(&response, "Content-Range")),
            (206, "bytes 6-9/10")
        );
        assert_eq!(whole(response).await, b"6789");
        assert_eq!(shelf.reads().as_slice(), std::slice::from_ref(&(6..10)));
    }

    #[tokio::test]
    async fn several_ranges_are_read_in_the_order_of_the_request() {
        let shelf = Shelf::with(b"0123456789");
        let response = get(&shelf, &[("range", "bytes=5-9,0-4,4-5")]).await.unwrap();
        assert_eq!(response.status, 206);
        let body = String::from_utf8(whole(response).await).unwrap();
        let contents: Vec<_> = body
            .split("\r\n")
            .filter(|line| line.bytes().all(|byte| byte.is_ascii_digit()))
            .collect();
        assert_eq!(
            contents.join(" ").split_whitespace().collect::<Vec<_>>(),
            ["56789", "01234", "45"]
        );
        assert_eq!(shelf.reads(), [5..10, 0..5, 4..6]);
    }

    #[tokio::test]
    async fn the_boundary_of_each_answer_is_another() {
        let shelf = Shelf::with(b"0123456789");
        let one = get(&shelf, &[("range", "bytes=0-1,3-4")]).await.unwrap();
        let other = get(&shelf, &[("range", "bytes=0-1,3-4")]).await.unwrap();
        assert_ne!(header(&one, "Content-Type"), header(&other, "Content-Type"));
    }

    #[tokio::test]
    async fn answers_without_a_body_read_nothing_and_hold_no_memory() {
        let shelf = Shelf::with(b"0123456789");
        let downloads = downloads();
        for (verb, lines, status) in [
            (Verb::Head, vec![], 200),
            (Verb::Get, vec![("if-none-match", "*")], 304),
            (Verb::Get, vec![("if-match", "\"1\"")], 412),
            (Verb::Get, vec![("range", "bytes=10-")], 416),
        ] {
            let source: Arc<dyn Source> = shelf.clone();
            let mut response = downloads.answer_from(source, verb, &headers(&lines)).await.unwrap();
            assert_eq!(response.status, status);
            assert_eq!(downloads.budget.used(), 0);
            assert_eq!(drain(&mut response.body).await, (Vec::new(), Ok(())));
        }
        assert_eq!(shelf.reads(), []);
    }

    #[tokio::test]
    async fn an_empty_file_is_sent_without_reading_it() {
        let shelf = Shelf::with(b"");
        assert_eq!(whole(get(&shelf, &[]).await.unwrap()).await, b"");
        assert_eq!(shelf.reads(), []);
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_after_the_look_is_answered_with_the_new_one() {
        let shelf = Shelf::after(b"old", &[Accident::Replaced(b"new content")]);
        let response = get(&shelf, &[]).await.unwrap();
        assert_eq!(header(&response, "ETag"), "\"1\"");
        assert_eq!(header(&response, "Last-Modified"), "Thu, 01 Jan 1970 00:00:01 GMT");
        assert_eq!(whole(response).await, b"new content");
    }

    #[tokio::test]
    async fn conditions_are_judged_again_when_the_file_was_replaced() {
        let shelf = Shelf::after(b"old", &[Accident::Replaced(b"new content")]);
        let response = get(&shelf, &[("range", "bytes=1-"), ("if-range", "\"0\"")])
            .await
            .unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(whole(response).await, b"new content");
    }

    #[tokio::test]
    async fn a_file_that_is_removed_after_the_look_is_not_found() {
        let shelf = Shelf::after(b"old", &[Accident::Removed]);
        assert_eq!(get(&shelf, &[]).await.unwrap_err(), Failure::NotFound);
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_all_the_time_is_busy() {
        let shelf = Shelf::after(b"old", &[Accident::Replaced(b"one"), Accident::Replaced(b"two")]);
        assert!(matches!(get(&shelf, &[]).await.unwrap_err(), Failure::Busy { .. }));
    }

    #[tokio::test]
    async fn a_missing_file_is_not_found_whatever_the_conditions() {
        let shelf = Arc::new(Shelf::default());
        for lines in [
            vec![],
            vec![("if-match", "*")],
            vec![("if-none-match", "*")],
            vec![("range", "bytes=0-")],
        ] {
            assert_eq!(get(&shelf, &lines).await.unwrap_err(), Failure::NotFound);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_between_two_ranges_breaks_the_answer_off() {
        let shelf = Shelf::after(b"0123456789", &[Accident::None, Accident::Replaced(b"abcdefghij")]);
        let mut response = get(&shelf, &[("range", "bytes=0-3,4-7")]).await.unwrap();
        let (bytes, end) = drain(&mut response.body).await;
        assert!(end.is_err());
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains("\r\n\r\n0123\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_store_that_sends_another_length_breaks_the_answer_off() {
        for (accident, sent) in [
            (Accident::EndsEarly, &b"012345678"[..]),
            (Accident::GoesOn, b"012345678"),
            (Accident::BreaksOff, b"012"),
        ] {
            let shelf = Shelf::after(b"0123456789", &[accident]);
            let mut response = get(&shelf, &[]).await.unwrap();
            let (bytes, end) = drain(&mut response.body).await;
            assert!(end.is_err());
            assert_eq!(bytes, sent);
        }
    }

    #[tokio::test]
    async fn trouble_with_the_store_is_told_with_a_status() {
        let trouble = || Error::Unavailable("503".to_owned());
        let denied = || Error::Denied("403".to_owned());
        for (shelf, status) in [
            (Shelf::blind(trouble()), 503),
            (Shelf::after(b"0123456789", &[Accident::Fails(trouble())]), 503),
            (Shelf::blind(denied()), 500),
            (Shelf::after(b"0123456789", &[Accident::Fails(denied())]), 500),
        ] {
            let told = match get(&shelf, &[]).await.unwrap_err() {
                Failure::NotFound => 404,
                Failure::Busy { .. } => 503,
                Failure::Internal(_) => 500,
            };
            assert_eq!(told, status);
        }
    }

    #[tokio::test]
    async fn a_download_holds_memory_until_it_is_dropped() {
        let downloads = downloads();
        let large: Arc<dyn Source> = Shelf::with(&vec![7; 3 << 20]);
        let small: Arc<dyn Source> = Shelf::with(&[7; 4096]);
        let response = downloads.answer_from(large, Verb::Get, &headers(&[])).await.unwrap();
        assert_eq!((downloads.budget.used(), downloads.share.used()), (HELD, HELD));
        let other = downloads.answer_from(small, Verb::Get, &headers(&[])).await.unwrap();
        assert_eq!(downloads.budget.used(), HELD + 4096);
        drop((response, other));
        assert_eq!((downloads.budget.used(), downloads.share.used()), (0, 0));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_reading() {
        let shelf = Shelf::with(b"0123456789");
        let mut response = get(&shelf, &[]).await.unwrap();
        assert_eq!(response.body.next().await.unwrap().unwrap(), "012");
        assert_eq!(shelf.streams(), 1);
        drop(response);
        assert_eq!(shelf.streams(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_leave_memory_to_uploads_and_the_next_one_is_busy() {
        let downloads = Downloads::new(Budget::new(4 * HELD, Duration::from_secs(60)), Duration::from_secs(60));
        let file = vec![7; HELD as usize];
        let mut readers = Vec::new();
        for _ in 0..2 {
            let source: Arc<dyn Source> = Shelf::with(&file);
            readers.push(downloads.answer_from(source, Verb::Get, &headers(&[])).await.unwrap());
        }
        let source: Arc<dyn Source> = Shelf::with(&file);
        let refused = downloads
            .answer_from(source, Verb::Get, &headers(&[]))
            .await
            .unwrap_err();
        assert!(matches!(refused, Failure::Busy { .. }));
        assert!(downloads.budget.try_reserve(2 * HELD).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_makes_downloads_busy_before_anything_is_sent() {
        let budget = Budget::new(4 * HELD, Duration::from_secs(60));
        let downloads = Downloads::new(budget.clone(), Duration::from_secs(60));
        let _uploads = budget.try_reserve(4 * HELD).unwrap();
        let shelf = Shelf::with(b"0123456789");
        let source: Arc<dyn Source> = shelf.clone();
        let refused = downloads
            .answer_from(source, Verb::Get, &headers(&[]))
            .await
            .unwrap_err();
        assert!(matches!(refused, Failure::Busy { .. }));
        assert_eq!((shelf.reads(), downloads.share.used()), (Vec::new(), 0));
    }

    /// A store that holds `bytes` under `key`, which replaced what `before` says.
    async fn put(store: &Store, key: &Key, bytes: &'static [u8], before: &Before) -> ObjectTag {
        let session = SessionId::new(random_id());
        let bytes = vec![Bytes::from_static(bytes)];
        store
            .put_file(key, session, bytes, Terms::whenever(before))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn what_a_store_holds_is_served_and_replaced_files_are_told_apart() {
        let (store, key) = (Store::memory(), Key::parse("folder/file.bin").unwrap());
        let downloads = downloads();
        let missing = downloads
            .answer(&store, &key, Verb::Get, &headers(&[]))
            .await
            .unwrap_err();
        assert_eq!(missing, Failure::NotFound);

        let tag = put(&store, &key, b"0123456789", &Before::Absent).await;
        let first = downloads.answer(&store, &key, Verb::Head, &headers(&[])).await.unwrap();
        assert_eq!((first.status, header(&first, "Content-Length")), (200, "10"));
        let etag = header(&first, "ETag").to_owned();
        let again = downloads.answer(&store, &key, Verb::Get, &headers(&[])).await.unwrap();
        assert_eq!(again.headers, first.headers);
        assert_eq!(whole(again).await, b"0123456789");

        let resumed = [("range", "bytes=4-"), ("if-range", etag.as_str())];
        let rest = downloads
            .answer(&store, &key, Verb::Get, &headers(&resumed))
            .await
            .unwrap();
        assert_eq!((rest.status, whole(rest).await), (206, b"456789".to_vec()));
        let known = [("if-none-match", etag.as_str())];
        let known = downloads
            .answer(&store, &key, Verb::Get, &headers(&known))
            .await
            .unwrap();
        assert_eq!(known.status, 304);

        put(&store, &key, b"abcdefghij", &Before::Present(tag)).await;
        let replaced = downloads
            .answer(&store, &key, Verb::Get, &headers(&resumed))
            .await
            .unwrap();
        assert_eq!((replaced.status, whole(replaced).await), (200, b"abcdefghij".to_vec()));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_is_what_is_sent(
            file in prop::collection::vec(any::<u8>(), 0..200),
            piece in 0_usize..50,
            range in "bytes=([0-9]{0,2}-[0-9]{0,3},){0,4}[0-9]{0,2}-[0-9]{0,3}",
        ) {
            let shelf = Shelf::with(&file);
            shelf.0.lock().unwrap().piece = piece;
            let response = block_on(get(&shelf, &[("range", &range)])).unwrap();
            let size = file.len() as u64;
            let selection = Ranges::parse(&range).map_or(Selection::Whole, |ranges| ranges.select(size));
            let (status, media) = (response.status, response.headers.first().map(|(_, value)| value.clone()));
            let body = block_on(whole(response));
            let of = |range: &Range<u64>| &file[range.start as usize..range.end as usize];
            match selection {
                Selection::Whole => prop_assert_eq!((status, &body), (200, &file)),
                Selection::One(range) => prop_assert_eq!((status, body.as_slice()), (206, of(&range))),
                Selection::Unsatisfiable => prop_assert_eq!((status, body.len()), (416, 0)),
                Selection::Several(ranges) => {
                    prop_assert_eq!(status, 206);
                    let media = media.unwrap();
                    let boundary = media.to_str().unwrap().split_once("boundary=").unwrap().1;
                    let mut expected = Vec::new();
                    for range in &ranges {
                        let head = format!(
                            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {}-{}/{size}\r\n\r\n",
                            range.start, range.end - 1
                        );
                        expected.extend_from_slice(head.as_bytes());
                        expected.extend_from_slice(of(range));
                    }
                    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                    prop_assert_eq!(&body, &expected[2..]);
                }
            }
        }
    }
}
