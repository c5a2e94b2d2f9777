//! Values that no log, error or listing may show.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a secret was taken from; this may be shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretSource {
    /// It stood in the configuration itself.
    Inline,
    /// `{ file = "…" }`: the content of a file, without one line end at its end.
    File(PathBuf),
    /// `{ env = "…" }`: an environment variable.
    Variable(String),
}

/// A value that is read by name ([`Secret::expose`]) and never printed or serialised.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret {
    value: String,
    source: SecretSource,
}

impl Secret {
    /// A secret that stood in the configuration itself.
    pub fn inline(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            source: SecretSource::Inline,
        }
    }

    /// A secret out of the environment variable `name`.
    pub fn variable(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            source: SecretSource::Variable(name.into()),
        }
    }

    /// Reads the secret in `file`: all of its text without one line end at its end.
    ///
    /// # Errors
    /// A sentence, when the file can't be read, is not UTF-8, is empty, or may be read by every user of the machine.
    pub fn read(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let found = std::fs::metadata(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        refuse_world_readable(file, &found)?;
        let bytes = std::fs::read(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let mut value = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
        if value.ends_with('\n') {
            value.pop();
            if value.ends_with('\r') {
                value.pop();
            }
        }
        if value.is_empty() {
            return Err(format!("{shown} is empty"));
        }
        Ok(Self {
            value,
            source: SecretSource::File(file.to_owned()),
        })
    }

    /// The secret itself, for the one who presents it to whom it opens a door.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Whether `guess` is the secret. How long it takes tells nothing of how much of it is right.
    pub fn is(&self, guess: &[u8]) -> bool {
        let value = self.value.as_bytes();
        let mut differs = usize::from(value.len() != guess.len());
        for (at, byte) in guess.iter().enumerate() {
            let own = value.get(at % value.len().max(1)).copied().unwrap_or_default();
            differs |= usize::from(std::hint::black_box(own ^ byte));
        }
        std::hint::black_box(differs) == 0
    }

    /// Where it was taken from.
    pub const fn source(&self) -> &SecretSource {
        &self.source
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(unix)]
fn refuse_world_readable(file: &Path, found: &std::fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = found.permissions().mode() & 0o777;
    if mode & 0o004 == 0 {
        return Ok(());
    }
    let shown = file.display();
    Err(format!(
        "{shown} may be read by every user of this machine (mode {mode:04o}): chmod o-r {shown}"
    ))
}

#[cfg(not(unix))]
fn refuse_world_readable(_: &Path, _: &std::fs::Metadata) -> Result<(), String> {
    Ok(())
}

/// A value that is plain for some keys and secret for others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretOr<T> {
    /// It may be shown.
    Plain(T),
    /// It may not.
    Secret(Secret),
}

impl<T: AsRef<str>> SecretOr<T> {
    /// The value, secret or not, for the one who uses it.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(value) => value.as_ref(),
            Self::Secret(secret) => secret.expose(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, file)
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = SecretOr::<String>::Secret(Secret::inline("hunter2"));
        assert_eq!(format!("{secret:?}"), "Secret([redacted])");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn only_the_secret_itself_is_it() {
        let secret = Secret::inline("hunter2");
        assert!(secret.is(b"hunter2"));
        for guess in [
            &b""[..],
            b"hunter",
            b"hunter3",
            b"Hunter2",
            b"hunter2hunter2",
            b"hunter2\0",
        ] {
            assert!(!secret.is(guess), "{guess:?}");
        }
        assert!(Secret::inline("").is(b"") && !Secret::inline("").is(b"x"));
    }

    #[test]
    fn a_file_gives_its_text_without_one_line_end() {
        for (content, value) in [
            ("s3cr3t", "s3cr3t"),
            ("s3cr3t\n", "s3cr3t"),
            ("a b\r\n", "a b"),
            ("two\n\n", "two\n"),
        ] {
            let (_folder, file) = file_with(content.as_bytes(), 0o640);
            assert_eq!(Secret::read(&file).unwrap().expose(), value);
        }
    }

    #[test]
    fn a_file_that_everybody_may_read_is_refused() {
        let (_folder, file) = file_with(b"s3cr3t", 0o644);
        let shown = file.display();
        assert_eq!(
            Secret::read(&file).unwrap_err(),
            format!("{shown} may be read by every user of this machine (mode 0644): chmod o-r {shown}")
        );
    }

    #[test]
    fn a_file_that_holds_no_text_is_refused() {
        let (_folder, file) = file_with(b"\n", 0o600);
        assert_eq!(Secret::read(&file).unwrap_err(), format!("{} is empty", file.display()));
        let (_folder, file) = file_with(b"\xff\xfe", 0o600);
        assert_eq!(
            Secret::read(&file).unwrap_err(),
            format!("{} is not UTF-8 text", file.display())
        );
        let gone = file.with_file_name("gone");
        assert!(
            Secret::read(&gone)
                .unwrap_err()
                .starts_with(&format!("{} cannot be read: ", gone.display()))
        );
    }
}
