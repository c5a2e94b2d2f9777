//! Where lines go: in the order in which they were logged, many at once where that is allowed.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Urgency;

/// How long a line may wait for others.
const PATIENCE: Duration = Duration::from_millis(5);

/// As many bytes may wait; who comes with more writes them himself, and waits for whoever reads them.
const MOST: usize = 256 << 10;

/// A writer that several threads share. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Outlet(Arc<Inner>);

struct Inner {
    /// Held while lines are written, and taken before [`Inner::waiting`] is: what was taken first is written first.
    sink: Mutex<Sink>,
    waiting: Mutex<Waiting>,
    /// Rung for the thread that writes what waits, when it has nothing to do.
    bell: Condvar,
}

struct Sink {
    to: Box<dyn Write + Send>,
    /// What was written last, as room for the lines that wait next.
    spare: Vec<u8>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Whether somebody will come for them.
    is_expected: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outlet {
    /// Into `sink`, with a thread of its own for the lines that wait, for the rest of the life of the process.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn to(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let outlet = Self(Arc::new(Inner {
            sink: Mutex::new(Sink {
                to: Box::new(sink),
                spare: Vec::new(),
            }),
            waiting: Mutex::default(),
            bell: Condvar::new(),
        }));
        let writer = outlet.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.attend())?;
        Ok(outlet)
    }

    /// Writes a line, now or soon.
    pub(super) fn write(&self, line: &[u8], urgency: Urgency) {
        if urgency == Urgency::Soon {
            let mut waiting = lock(&self.0.waiting);
            if waiting.lines.len() + line.len() <= MOST {
                waiting.lines.extend_from_slice(line);
                if !waiting.is_expected {
                    waiting.is_expected = true;
                    self.0.bell.notify_one();
                }
                return;
            }
        }
        self.write_out(line);
    }

    /// Writes what waits, and `line` behind it. `false`: nothing was waiting.
    fn write_out(&self, line: &[u8]) -> bool {
        let mut sink = lock(&self.0.sink);
        let Sink { to, spare: lines } = &mut *sink;
        std::mem::swap(lines, &mut lock(&self.0.waiting).lines);
        let waited = !lines.is_empty();
        lines.extend_from_slice(line);
        // Nobody is left to tell when standard output is gone.
        let _ = to.write_all(lines).and_then(|()| to.flush());
        lines.clear();
        waited
    }

    fn attend(&self) {
        loop {
            let waiting = lock(&self.0.waiting);
            drop(self.0.bell.wait_while(waiting, |waiting| !waiting.is_expected));
            loop {
                thread::park_timeout(PATIENCE);
                if !self.write_out(&[]) && self.rest() {
                    break;
                }
            }
        }
    }

    /// Goes back to sleep, unless something came in at this very moment.
    fn rest(&self) -> bool {
        let mut waiting = lock(&self.0.waiting);
        waiting.is_expected = !waiting.lines.is_empty();
        !waiting.is_expected
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Keeps what is written, one entry for each write.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(lock(&self.0).concat()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_may_wait_comes_soon_by_itself() {
        let sink = Sink::default();
        let outlet = Outlet::to(sink.clone()).unwrap();
        for round in ["a\n", "b\n"] {
            outlet.write(round.as_bytes(), Urgency::Soon);
            let begin = Instant::now();
            while !sink.text().ends_with(round) {
                assert!(begin.elapsed() < Duration::from_secs(30), "{round} never came");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_line_that_may_not_wait_is_out_at_once_behind_those_that_waited() {
        let sink = Sink::default();
        let outlet = Outlet::to(sink.clone()).unwrap();
        let mut all = String::new();
        for number in 0..200 {
            let (first, second) = (format!("{number} soon\n"), format!("{number} now\n"));
            outlet.write(first.as_bytes(), Urgency::Soon);
            outlet.write(second.as_bytes(), Urgency::Now);
            all += &(first + &second);
            assert_eq!(sink.text(), all);
        }
    }

    #[test]
    fn what_waits_is_bounded_and_nothing_of_it_is_lost() {
        let sink = Sink::default();
        let outlet = Outlet::to(sink.clone()).unwrap();
        let line = [vec![b'x'; 999], vec![b'\n']].concat();
        for _ in 0..2_000 {
            outlet.write(&line, Urgency::Soon);
            assert!(lock(&outlet.0.waiting).lines.len() <= MOST);
        }
        outlet.write(&[], Urgency::Now);
        assert_eq!(sink.text().len(), 2_000_000);
    }
}
