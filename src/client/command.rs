//! `bits-gateway upload FILE URL`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::HumanBytes;
use url::Url;

use super::progress::{Progress, line};
use super::sizes::{LEAST, MOST, Sizes};
use super::{Failed, Options, Patience, Source, Upload};
use crate::units::{ByteSize, parse_duration};

/// Uploads FILE to URL as the BITS of Windows does
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The file to upload
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where it goes: http://host/path/name or https://…
    #[arg(value_name = "URL")]
    pub url: Url,
    /// Size of each fragment, 5120B to 13MiB [default: they vary in between, as those of Windows do]
    #[arg(long, value_name = "SIZE", value_parser = fragment_size)]
    pub fragment_size: Option<ByteSize>,
    /// Makes the sizes of the fragments the same in each run
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// How long to wait after the first trouble; twice as long after each further one, up to 10m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub retry_delay: Duration,
    /// Give up after this long without progress; 0s: try nothing again
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub give_up_after: Duration,
    /// Trust the certificate authorities in this PEM file instead of those of this machine
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Where the upload is remembered until it is done, so that the same command goes on with it [default: FILE.bits-upload]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Put the reply of the server application here, before the upload is closed and the reply deleted
    #[arg(long, value_name = "FILE")]
    pub reply: Option<PathBuf>,
    /// Forget an upload that was begun, and begin another one
    #[arg(long)]
    pub restart: bool,
    /// Say nothing but what went wrong
    #[arg(short, long)]
    pub quiet: bool,
}

impl Arguments {
    fn upload(&self) -> Upload {
        let defaults = Options::default();
        let options = Options {
            sizes: self
                .fragment_size
                .map_or(defaults.sizes, |size| Sizes::Fixed(size.bytes())),
            seed: self.seed,
            patience: Patience {
                retry_delay: self.retry_delay,
                longest_delay: defaults.patience.longest_delay.max(self.retry_delay),
                give_up_after: self.give_up_after,
            },
            ca_file: self.ca_file.clone(),
            reply: self.reply.clone(),
            state: Some(self.state.clone().unwrap_or_else(|| beside(&self.file))),
            ..defaults
        };
        Upload {
            url: self.url.clone(),
            source: Source::File(self.file.clone()),
            options,
        }
    }
}

/// Uploads the file and says how it went. 0: done; 1: refused; 64: asked for what can't be; 69: the server could not be reached,
/// or had trouble, until the patience was over.
pub async fn command(arguments: Arguments) -> ExitCode {
    match attempt(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            line(format_args!("error: {failed}"));
            if let Some(advice) = failed.advice() {
                line(format_args!("{advice}"));
            }
            ExitCode::from(failed.exit_code())
        }
    }
}

async fn attempt(arguments: &Arguments) -> Result<(), Failed> {
    let upload = arguments.upload();
    if let (true, Some(state)) = (arguments.restart, &upload.options.state) {
        super::state::StateFile::new(state, upload.url.as_str())
            .forget()
            .await?;
    }
    let total = upload.source.open().await?.identity().size;
    let mut progress = Progress::new(arguments.quiet, total);
    let result = upload.run(|event| progress.show(&event)).await;
    progress.clear();
    let done = result?;
    progress.finish(format_args!("uploaded {} to {}", HumanBytes(done.total), upload.url));
    match (&arguments.reply, done.reply_size) {
        (Some(file), Some(size)) => {
            progress.finish(format_args!(
                "fetched a reply of {} into {}",
                HumanBytes(size),
                file.display()
            ));
        }
        (Some(_), None) => line(format_args!("the server has no reply")),
        (None, _) => {}
    }
    Ok(())
}

fn beside(file: &Path) -> PathBuf {
    let mut state = file.as_os_str().to_owned();
    state.push(".bits-upload");
    state.into()
}

fn fragment_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    match (LEAST..=MOST).contains(&size.bytes()) {
        true => Ok(size),
        false => Err(format!(
            "fragments have {} to {}",
            ByteSize::new(LEAST),
            ByteSize::new(MOST)
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let command = Arguments::augment_args(Command::new("upload").no_binary_name(true));
        Arguments::from_arg_matches(&command.try_get_matches_from(line.split_whitespace())?)
    }

    #[test]
    fn the_defaults_are_those_of_the_options() {
        let upload = parse("some/f.bin http://h/up/f.bin").unwrap().upload();
        let defaults = Options::default();
        assert_eq!(upload.source, Source::File("some/f.bin".into()));
        assert_eq!(upload.options.sizes, defaults.sizes);
        assert_eq!(upload.options.patience, defaults.patience);
        assert_eq!(upload.options.state, Some("some/f.bin.bits-upload".into()));
    }

    #[test]
    fn what_is_asked_for_is_done() {
        let line =
            "f https://h/f --fragment-size 13MiB --seed 7 --retry-delay 1h --give-up-after 0s --ca-file ca --state s";
        let options = parse(line).unwrap().upload().options;
        assert_eq!((options.sizes, options.seed), (Sizes::Fixed(MOST), Some(7)));
        assert_eq!(options.patience.longest_delay, Duration::from_secs(3_600));
        assert!(options.patience.give_up_after.is_zero());
        assert_eq!((options.ca_file, options.state), (Some("ca".into()), Some("s".into())));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "f",
            "f not-a-url",
            "f http://h/f --fragment-size 5119B",
            "f http://h/f --fragment-size 14MiB",
            "f http://h/f --retry-delay soon",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn a_restart_forgets_what_was_begun_but_never_a_file_of_somebody_else() {
        let folder = tempfile::tempdir().unwrap();
        let diary = folder.path().join("diary");
        std::fs::write(&diary, "dear diary").unwrap();
        let line = format!(
            "none http://127.0.0.1:1/f --quiet --restart --state {}",
            diary.display()
        );
        let failed = attempt(&parse(&line).unwrap()).await.unwrap_err();
        assert_eq!(failed.exit_code(), 1);
        assert!(diary.exists());

        std::fs::remove_file(&diary).unwrap();
        let failed = attempt(&parse(&line).unwrap()).await.unwrap_err();
        assert!(matches!(&failed, Failed::Source(_)), "{failed}");
        assert_eq!(failed.exit_code(), 64);
    }
}
