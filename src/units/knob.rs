//! How a room states its settings: once, as a documented struct.
//!
//! `settings!` turns a struct whose fields carry doc comments and defaults into a [`Section`]: the same few
//! lines are the type, its default, its strict reader, and the source of `config reference`, `config schema`,
//! `docs/configuration.md` and the names of the environment variables. What a value looks like is the business of its type: [`Knob`].

mod found;
mod kinds;

pub use found::{Entry, Found, Place, Problem, Reading, Table, Value, nearest};
pub use kinds::Unavailable;
pub(crate) use kinds::quoted;

/// What a value may be, for the documentation, the schema and the names of the environment variables.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// `true`, `false` or one of these words.
    FlagOr(&'static [&'static str]),
    /// A whole number from `least` to `most`.
    Whole {
        /// Smallest number allowed.
        least: u64,
        /// Largest number allowed.
        most: u64,
    },
    /// Any text.
    Text,
    /// Text of a certain form.
    Form {
        /// What it is called, with its article: "an address".
        called: &'static str,
        /// Regular expression that every valid text matches.
        pattern: &'static str,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text, or `{ file = "…" }`, or `{ env = "…" }`.
    Secret,
    /// Several of one kind.
    List(Box<Self>),
    /// Keys that somebody else defines, all of one kind.
    Map(Box<Self>),
    /// A section with these keys.
    Table(Vec<Key>),
    /// A key of a version to come.
    Unavailable,
}

/// A key, as the documentation knows it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it does, what it costs: the doc comment of its field, line by line.
    pub about: &'static [&'static str],
    /// What its value may be.
    pub kind: Kind,
    /// Its default as TOML; `None` when nothing stands in for a missing value.
    pub default: Option<String>,
    /// A value as TOML that shows what it may look like, where there is no default or where it depends on other keys.
    pub example: Option<&'static str>,
    /// Whether it has to be given.
    pub required: bool,
}

/// A value as it is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Shown {
    /// An optional key without a value.
    Absent,
    /// TOML text.
    Text(String),
    /// A section.
    Table(Vec<(&'static str, Self)>),
    /// A list of sections.
    Tables(Vec<Vec<(&'static str, Self)>>),
    /// A section whose keys somebody else defines.
    Map(Vec<(String, String)>),
}

/// A type whose values can be configured.
pub trait Knob: Sized {
    /// What its values may be.
    fn kind() -> Kind;

    /// Makes a value of what was found, or reports why it can't.
    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self>;

    /// The value as it would be written in the file, secrets redacted.
    fn show(&self) -> Shown;

    /// Whether it may be missing although it has no default.
    fn optional() -> bool {
        false
    }
}

/// A struct of settings; made by `settings!`.
pub trait Section: Sized {
    /// What the section is for, line by line.
    const ABOUT: &'static [&'static str];

    /// Its keys, in the order of its documentation.
    fn keys() -> Vec<Key>;

    /// Reads what `table` has of its keys; the defaults stand in for the rest and for what is wrong.
    fn read_keys(table: &Table, reading: &mut Reading<'_>) -> Self;

    /// Its values.
    fn show_keys(&self) -> Vec<(&'static str, Shown)>;
}

/// Reads a section, and reports every key that it does not know.
pub fn read_section<S: Section>(found: &Found, reading: &mut Reading<'_>) -> Option<S> {
    let Value::Table(table) = &found.value else {
        reading.report(
            &found.place,
            format!("expected a section, found {}", found.value.called()),
        );
        return None;
    };
    let keys = S::keys();
    for (name, entry) in table {
        if !keys.iter().any(|key| key.name == name) {
            reading.report_unknown(name, &entry.key, keys.iter().map(|key| key.name));
        }
    }
    Some(S::read_keys(table, reading))
}

/// Reads the value of one key, if `table` has it.
pub fn read_key<K: Knob>(table: &Table, name: &str, reading: &mut Reading<'_>) -> Option<K> {
    let entry = table.get(name)?;
    reading.within(name, &entry.found.place, |reading| K::read(&entry.found, reading))
}

/// A default as the documentation shows it.
pub fn shown_default<K: Knob>(value: &K) -> Option<String> {
    match value.show() {
        Shown::Text(text) => Some(text),
        _ => None,
    }
}

/// Defines a struct of settings.
///
/// ```text
/// settings! {
///     /// What the section is for.
///     pub struct Settings {
///         /// What the key does. What a larger value costs.
///         pub threads: u32 = 4,
///         /// A key that is called otherwise than its field, may be missing, and gets an example in the reference.
///         #[key = "store"]
///         #[example = "\"s3://bucket\""]
///         pub url: Option<String> = None,
///     }
/// }
/// ```
///
/// `#[required = "…"]` in the place of `#[example = "…"]` marks a key without which there is no section; its default is never
/// used. A field without a default is a section whose keys stand among those of this one.
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[key = $key:literal])?
                $(#[example = $example:literal])?
                $(#[required = $required:literal])?
                pub $field:ident: $type:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $crate::units::knob::settings!(@default $($default)?), )* }
            }
        }

        impl $crate::units::knob::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];

            fn keys() -> Vec<$crate::units::knob::Key> {
                let mut keys = Vec::new();
                $( $crate::units::knob::settings!(
                    @keys keys, [$($key)? stringify!($field)], [$($doc),*], [$($example)?], [$($required)?], $type $(, $default)?
                ); )*
                keys
            }

            fn read_keys(
                table: &$crate::units::knob::Table,
                reading: &mut $crate::units::knob::Reading<'_>,
            ) -> Self {
                $( $crate::units::knob::settings!(@required table, reading, [$($key)? stringify!($field)], [$($required)?]); )*
                Self {
                    $( $field: $crate::units::knob::settings!(
                        @read table, reading, [$($key)? stringify!($field)], $type $(, $default)?
                    ), )*
                }
            }

            fn show_keys(&self) -> Vec<(&'static str, $crate::units::knob::Shown)> {
                let mut shown = Vec::new();
                $( $crate::units::knob::settings!(
                    @show shown, self, $field, [$($key)? stringify!($field)] $(, $default)?
                ); )*
                shown
            }
        }

        impl $crate::units::knob::Knob for $name {
            fn kind() -> $crate::units::knob::Kind {
                $crate::units::knob::Kind::Table(<Self as $crate::units::knob::Section>::keys())
            }

            fn read(
                found: &$crate::units::knob::Found,
                reading: &mut $crate::units::knob::Reading<'_>,
            ) -> Option<Self> {
                $crate::units::knob::read_section(found, reading)
            }

            fn show(&self) -> $crate::units::knob::Shown {
                $crate::units::knob::Shown::Table($crate::units::knob::Section::show_keys(self))
            }
        }
    };

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@name [$key:literal $($field:tt)*]) => { $key };
    (@name [$field:expr]) => { $field };

    (@keys $keys:ident, $name:tt, [$($doc:literal),*], [$($example:literal)?], [$($required:literal)?], $type:ty) => {
        $keys.extend(<$type as $crate::units::knob::Section>::keys());
    };
    (@keys $keys:ident, $name:tt, [$($doc:literal),*], [$($example:literal)?], [$($required:literal)?], $type:ty, $default:expr) => {{
        let default: $type = $default;
        let required = $crate::units::knob::settings!(@is_required $($required)?);
        $keys.extend([$crate::units::knob::Key {
            name: $crate::units::knob::settings!(@name $name),
            about: &[$($doc),*],
            kind: <$type as $crate::units::knob::Knob>::kind(),
            default: if required { None } else { $crate::units::knob::shown_default(&default) },
            example: $crate::units::knob::settings!(@example $($example)? $($required)?),
            required,
        }]);
    }};

    (@example) => { None };
    (@example $example:literal) => { Some($example) };

    (@is_required) => { false };
    (@is_required $required:literal) => { true };

    (@required $table:ident, $reading:ident, $name:tt, []) => {};
    (@required $table:ident, $reading:ident, $name:tt, [$required:literal]) => {
        if !$table.contains_key($crate::units::knob::settings!(@name $name)) {
            $reading.report_missing($crate::units::knob::settings!(@name $name));
        }
    };

    (@read $table:ident, $reading:ident, $name:tt, $type:ty) => {
        <$type as $crate::units::knob::Section>::read_keys($table, $reading)
    };
    (@read $table:ident, $reading:ident, $name:tt, $type:ty, $default:expr) => {
        $crate::units::knob::read_key::<$type>($table, $crate::units::knob::settings!(@name $name), $reading).unwrap_or_else(|| $default)
    };

    (@show $shown:ident, $self:ident, $field:ident, $name:tt) => {
        $shown.extend($crate::units::knob::Section::show_keys(&$self.$field));
    };
    (@show $shown:ident, $self:ident, $field:ident, $name:tt, $default:expr) => {
        $shown.extend([($crate::units::knob::settings!(@name $name), $crate::units::knob::Knob::show(&$self.$field))]);
    };
}

/// Makes an enum without data configurable, each variant by one word.
macro_rules! choices {
    ($name:ty { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $crate::units::knob::Knob for $name {
            fn kind() -> $crate::units::knob::Kind {
                $crate::units::knob::Kind::Choice(&[$($word),+])
            }

            fn read(
                found: &$crate::units::knob::Found,
                reading: &mut $crate::units::knob::Reading<'_>,
            ) -> Option<Self> {
                match found.text(reading)? {
                    $( $word => Some(Self::$variant), )+
                    other => {
                        reading.report_choice(&found.place, other, &[$($word),+]);
                        None
                    }
                }
            }

            fn show(&self) -> $crate::units::knob::Shown {
                let word = match self { $( Self::$variant => $word, )+ };
                $crate::units::knob::Shown::Text(format!("\"{word}\""))
            }
        }
    };
}

pub(crate) use {choices, settings};
