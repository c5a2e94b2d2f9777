//! What the user sees of an upload: a bar on a terminal, now and then a line elsewhere.

use std::fmt;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::event::Event;

/// Time between two lines that say only how far the upload is.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Shows an upload on the standard error stream.
#[derive(Debug)]
pub(super) struct Progress {
    shown: Shown,
    total: u64,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    /// With the time of the last of them.
    Lines(Option<Instant>),
    Bar(ProgressBar),
}

impl Progress {
    /// Of an upload of a file of `total` bytes; shows nothing when `quiet`.
    pub(super) fn new(quiet: bool, total: u64) -> Self {
        let shown = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines(None),
            (false, true) => Shown::Bar(bar(total)),
        };
        Self { shown, total }
    }

    /// Shows `event`, if it is worth it.
    pub(super) fn show(&mut self, event: &Event) {
        if let Shown::Bar(bar) = &self.shown {
            match event {
                // What is on its way counts for the eye; what the server says corrects it.
                Event::Sent { offset: at }
                | Event::Stored { offset: at }
                | Event::Resumed { offset: at, .. }
                | Event::Moved { to: at, .. } => {
                    bar.set_position(*at);
                }
                _ => {}
            }
        }
        match event {
            Event::Resumed { session, offset } => {
                self.say(format_args!(
                    "going on with session {session} at {}",
                    self.share(*offset)
                ));
            }
            Event::Created { session } => self.say(format_args!("session {session}")),
            Event::Stored { offset } => self.advanced(*offset),
            Event::Moved { from, to } => self.say(format_args!("the server wants byte {to} instead of {from}")),
            Event::Shrunk { most } => {
                self.say(format_args!(
                    "the server finds the fragment too large: at most {} from now on",
                    HumanBytes(*most)
                ));
            }
            Event::SessionLost => self.say(format_args!(
                "the server does not know the session any more: beginning another one"
            )),
            Event::Troubled {
                trouble,
                wait,
                back_to_origin,
            } => {
                self.say(format_args!("{trouble}; trying again in {:.1} s", wait.as_secs_f64()));
                if *back_to_origin {
                    self.say(format_args!("going back to the host of the URL"));
                }
            }
            Event::Sending(_)
            | Event::Sent { .. }
            | Event::Answered { .. }
            | Event::Reached
            | Event::Closed
            | Event::GivenUp => {}
        }
    }

    /// Takes the bar away, however the upload ended.
    pub(super) fn clear(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    /// A last line, for success.
    pub(super) fn finish(&self, text: fmt::Arguments<'_>) {
        self.say(text);
    }

    fn advanced(&mut self, offset: u64) {
        let Shown::Lines(last) = &mut self.shown else { return };
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= BETWEEN_LINES) {
            *last = Some(now);
            self.say(format_args!("{}", self.share(offset)));
        }
    }

    fn share(&self, offset: u64) -> String {
        let percent = match self.total {
            0 => 100,
            total => u128::from(offset) * 100 / u128::from(total),
        };
        format!("{percent} %, {} of {}", HumanBytes(offset), HumanBytes(self.total))
    }

    fn say(&self, text: fmt::Arguments<'_>) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines(_) => line(text),
            Shown::Bar(bar) => bar.suspend(|| line(text)),
        }
    }
}

/// A line for the user. Nobody may be listening, which is no reason to stop.
pub(super) fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

const TEMPLATE: &str = "{percent:>3} % {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_of_the_bar_is_one() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }

    #[test]
    fn shares_are_told_for_every_size() {
        for (total, offset, text) in [
            (0, 0, "100 %, 0 B of 0 B"),
            (3 << 20, 1 << 20, "33 %, 1.00 MiB of 3.00 MiB"),
            (u64::MAX, u64::MAX, "100 %, 16.00 EiB of 16.00 EiB"),
        ] {
            assert_eq!(
                Progress {
                    shown: Shown::Nothing,
                    total
                }
                .share(offset),
                text
            );
        }
    }
}
