//! The names of the four kinds, as metrics, logs, events and manifests use them.

use strum::{IntoStaticStr, VariantArray};

/// The four kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub enum Kind {
    /// `X2Gateway`
    #[strum(serialize = "X2Gateway")]
    Gateway,
    /// `TokenPolicy`
    #[strum(serialize = "TokenPolicy")]
    Policy,
    /// `KonaServer`
    #[strum(serialize = "KonaServer")]
    Server,
    /// `CustomerTokenTtl`
    #[strum(serialize = "CustomerTokenTtl")]
    Customer,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
