//! The names of enums in the store and on the command line.

/// Gives a fieldless enum its names in the store and on the command line: `as_str`, `Display` and
/// `FromStr`.
macro_rules! words {
    ($type:ident, $what:literal, { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $type {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl FromStr for $type {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!(concat!("{:?} is no ", $what, ": it is one of", $(" ", $word),+), word)),
                }
            }
        }
    };
}
pub(super) use words;
