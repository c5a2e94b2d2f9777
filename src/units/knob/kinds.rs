//! How the plain types are read and shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::{Found, Kind, Knob, Reading, Shown, Value};
use crate::units::{ByteSize, HttpOrigin, Secret, SecretOr, SecretSource, parse_duration, show_duration};

impl Knob for bool {
    fn kind() -> Kind {
        Kind::Flag
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        match &found.value {
            Value::Flag(flag) => Some(*flag),
            Value::Word(word) if word == "true" => Some(true),
            Value::Word(word) if word == "false" => Some(false),
            other => {
                reading.report(&found.place, format!("expected true or false, found {}", quoted(other)));
                None
            }
        }
    }

    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }
}

impl Knob for u32 {
    fn kind() -> Kind {
        Kind::Whole {
            least: 0,
            most: Self::MAX.into(),
        }
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        let number = match &found.value {
            Value::Whole(number) => Self::try_from(*number).ok(),
            Value::Word(word) => word.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            let reason = format!(
                "expected a whole number from 0 to {}, found {}",
                Self::MAX,
                quoted(&found.value)
            );
            reading.report(&found.place, reason);
        }
        number
    }

    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }
}

impl Knob for String {
    fn kind() -> Kind {
        Kind::Text
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        let text = found.text(reading)?;
        if text.is_empty() {
            reading.report(&found.place, "may not be empty");
            return None;
        }
        Some(text.to_owned())
    }

    fn show(&self) -> Shown {
        Shown::Text(in_quotes(self))
    }
}

impl Knob for ByteSize {
    fn kind() -> Kind {
        Kind::Form {
            called: "a size",
            pattern: "^[0-9]+ ?([KMGTkmgt][Ii]?)?[Bb]$",
        }
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        if let Value::Whole(number) = found.value {
            let reason = format!("{number} has no unit: write \"{number}B\", \"{number}KB\", \"{number}MiB\" …");
            reading.report(&found.place, reason);
            return None;
        }
        parse(found, reading, str::parse)
    }

    fn show(&self) -> Shown {
        Shown::Text(in_quotes(&self.to_string()))
    }
}

impl Knob for Duration {
    fn kind() -> Kind {
        Kind::Form {
            called: "a duration",
            pattern: "^([0-9]+ ?(w|d|h|m|s|ms) ?)+$",
        }
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        if let Value::Whole(number) = found.value {
            let reason = format!("{number} has no unit: write \"{number}s\", \"{number}m\", \"{number}h\" …");
            reading.report(&found.place, reason);
            return None;
        }
        parse(found, reading, parse_duration)
    }

    fn show(&self) -> Shown {
        Shown::Text(in_quotes(&show_duration(*self)))
    }
}

impl Knob for SocketAddr {
    fn kind() -> Kind {
        Kind::Form {
            called: "an address",
            pattern: "^([0-9.]+|\\[[0-9A-Fa-f:.%]+\\]):[0-9]+$",
        }
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        parse(found, reading, |text| {
            Self::from_str(text).map_err(|_| {
                format!(
                    "{text:?} is not an address: an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\""
                )
            })
        })
    }

    fn show(&self) -> Shown {
        Shown::Text(in_quotes(&self.to_string()))
    }
}

impl Knob for IpNet {
    fn kind() -> Kind {
        Kind::Form {
            called: "a network",
            pattern: "^[0-9A-Fa-f.:]+(/[0-9]+)?$",
        }
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        parse(found, reading, |text| {
            let network = text.parse::<Self>().ok();
            let address = || text.parse::<IpAddr>().ok().map(Self::from);
            let network = network.or_else(address).ok_or_else(|| {
                format!("{text:?} is not a network or address, such as \"10.0.0.0/8\", \"192.0.2.1\" or \"fd00::/8\"")
            })?;
            if network.trunc() == network {
                Ok(network)
            } else {
                Err(format!(
                    "{text:?} has bits beyond its prefix: {} is the network",
                    network.trunc()
                ))
            }
        })
    }

    fn show(&self) -> Shown {
        Shown::Text(in_quotes(&self.to_string()))
    }
}

impl Knob for HttpOrigin {
    fn kind() -> Kind {
        Kind::Form {
            called: "a URL",
            pattern: "^https?://[^/?#@]+/?$",
        }
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        parse(found, reading, str::parse)
    }

    fn show(&self) -> Shown {
        Shown::Text(in_quotes(&self.to_string()))
    }
}

impl Knob for Secret {
    fn kind() -> Kind {
        Kind::Secret
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        let secret = read_secret(found, reading)?;
        if secret.expose().is_empty() {
            reading.report(&found.place, "may not be empty");
            return None;
        }
        Some(secret)
    }

    fn show(&self) -> Shown {
        Shown::Text(show_secret(self))
    }
}

/// Where a secret comes from, or that it is one.
fn show_secret(secret: &Secret) -> String {
    match secret.source() {
        SecretSource::Inline => in_quotes("[redacted]"),
        SecretSource::File(file) => format!("{{ file = {} }}", in_quotes(&file.display().to_string())),
        SecretSource::Variable(name) => format!("{{ env = {} }}", in_quotes(name)),
    }
}

impl<K: Knob> Knob for Option<K> {
    fn kind() -> Kind {
        K::kind()
    }

    /// An empty variable takes back what the file says.
    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        match &found.value {
            Value::Word(word) if word.is_empty() => Some(None),
            _ => K::read(found, reading).map(Some),
        }
    }

    fn show(&self) -> Shown {
        self.as_ref().map_or(Shown::Absent, K::show)
    }

    fn optional() -> bool {
        true
    }
}

impl<K: Knob> Knob for Vec<K> {
    fn kind() -> Kind {
        Kind::List(Box::new(K::kind()))
    }

    /// Elements that are wrong are reported and left out.
    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        let elements = match &found.value {
            Value::List(elements) => elements.clone(),
            Value::Word(words) => words
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| Found {
                    value: Value::Word(word.to_owned()),
                    place: found.place.clone(),
                })
                .collect(),
            other => {
                reading.report(&found.place, format!("expected a list, found {}", quoted(other)));
                return None;
            }
        };
        let read = |(index, element): (usize, &Found)| {
            reading.element(index, &element.place, |reading| K::read(element, reading))
        };
        Some(elements.iter().enumerate().filter_map(read).collect())
    }

    fn show(&self) -> Shown {
        let mut texts = Vec::new();
        let mut tables = Vec::new();
        for value in self {
            match value.show() {
                Shown::Text(text) => texts.push(text),
                Shown::Table(keys) => tables.push(keys),
                Shown::Absent | Shown::Tables(_) | Shown::Map(_) => {}
            }
        }
        if tables.is_empty() {
            Shown::Text(format!("[{}]", texts.join(", ")))
        } else {
            Shown::Tables(tables)
        }
    }
}

/// The options of the library that speaks to a store: it knows which there are.
impl Knob for BTreeMap<String, SecretOr<String>> {
    fn kind() -> Kind {
        Kind::Map(Box::new(Kind::Secret))
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        let Value::Table(table) = &found.value else {
            reading.report(
                &found.place,
                format!("expected a section, found {}", quoted(&found.value)),
            );
            return None;
        };
        let read = |(name, entry): (&String, &super::Entry)| {
            let value = reading.within(name, &entry.found.place, |reading| {
                read_option(name, &entry.found, reading)
            });
            Some((name.clone(), value?))
        };
        Some(table.iter().filter_map(read).collect())
    }

    fn show(&self) -> Shown {
        let show = |(name, value): (&String, &SecretOr<String>)| {
            let text = match value {
                SecretOr::Plain(value) => in_quotes(value),
                SecretOr::Secret(secret) => show_secret(secret),
            };
            (name.clone(), text)
        };
        Shown::Map(self.iter().map(show).collect())
    }
}

/// A key of a version to come: refused, so that nobody relies on what does not happen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unavailable;

impl Knob for Unavailable {
    fn kind() -> Kind {
        Kind::Unavailable
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        reading.report(&found.place, "not available in this version");
        None
    }

    fn show(&self) -> Shown {
        Shown::Absent
    }

    fn optional() -> bool {
        true
    }
}

/// Words in the names of options whose values open doors.
const SECRET_WORDS: [&str; 8] = [
    "secret",
    "token",
    "password",
    "key",
    "sas",
    "credential",
    "authorization",
    "proxy_url",
];

/// Options that hold such a word and are no secrets.
const PLAIN_OPTIONS: [&str; 4] = [
    "aws_sse_kms_key_id",
    "aws_sse_bucket_key_enabled",
    "aws_web_identity_token_file",
    "azure_federated_token_file",
];

fn read_option(name: &str, found: &Found, reading: &mut Reading<'_>) -> Option<SecretOr<String>> {
    let text = match &found.value {
        Value::Text(text) | Value::Word(text) => text.clone(),
        // Options are text to the library; whoever writes `aws_allow_http = true` still means something clear.
        Value::Flag(flag) => flag.to_string(),
        Value::Whole(number) => number.to_string(),
        Value::Table(_) => return read_secret(found, reading).map(SecretOr::Secret),
        other => {
            reading.report(&found.place, format!("expected text, found {}", other.called()));
            return None;
        }
    };
    let name = name.to_ascii_lowercase();
    let secret = SECRET_WORDS.iter().any(|word| name.contains(word)) && !PLAIN_OPTIONS.contains(&name.as_str());
    Some(if secret {
        SecretOr::Secret(Secret::inline(text))
    } else {
        SecretOr::Plain(text)
    })
}

/// Fetches a secret from where `{ file = "…" }` or `{ env = "…" }` says it is.
fn read_secret(found: &Found, reading: &mut Reading<'_>) -> Option<Secret> {
    let Value::Table(table) = &found.value else {
        return found.text(reading).map(Secret::inline);
    };
    let mut sources = table.iter();
    let (Some((source, entry)), None) = (sources.next(), sources.next()) else {
        reading.report(&found.place, "expected one of { file = \"…\" } and { env = \"…\" }");
        return None;
    };
    let named = reading.within(source, &entry.found.place, |reading| {
        String::read(&entry.found, reading)
    });
    let secret = match source.as_str() {
        "file" => Secret::read(Path::new(&named?)),
        "env" => {
            let name = named?;
            match reading.variables.get(&name) {
                Some(value) if !value.is_empty() => Ok(Secret::variable(name, value)),
                Some(_) => Err(format!("the environment variable {name} is empty")),
                None => Err(format!("there is no environment variable {name}")),
            }
        }
        _ => {
            reading.report_unknown(source, &entry.key, ["file", "env"].into_iter());
            return None;
        }
    };
    secret.map_err(|reason| reading.report(&entry.found.place, reason)).ok()
}

/// Reads text of a certain form.
fn parse<T>(found: &Found, reading: &mut Reading<'_>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    let text = found.text(reading)?;
    parse(text).map_err(|reason| reading.report(&found.place, reason)).ok()
}

/// What was found instead: text by its words, anything else by its kind.
pub(crate) fn quoted(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Word(text) => format!("{text:?}"),
        Value::Whole(number) => number.to_string(),
        other => other.called().to_owned(),
    }
}

/// A TOML basic string.
fn in_quotes(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
