//! A source whose KubeProxyConfiguration is replaced by one from elsewhere.

use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_source::Source;

/// A source whose configuration is replaced by one from elsewhere.
pub(crate) struct GivenConfig<Src> {
    source: Src,
    /// The source's own configuration is left out.
    replaces: bool,
    /// The replacement, until it has been passed on.
    given: Option<ProxyConfig>,
}

impl<Src> GivenConfig<Src> {
    pub(crate) fn new(source: Src, given: Option<ProxyConfig>) -> Self {
        Self {
            source,
            replaces: given.is_some(),
            given,
        }
    }
}

impl<Src: Source> Source for GivenConfig<Src> {
    async fn next(&mut self) -> Option<Batch> {
        let mut batch = self.source.next().await?;
        if self.replaces {
            batch.changes.retain(|c| match c {
                Change::Upsert(object) => object.kind() != Kind::ProxyConfig,
                Change::Remove(kind, _) => *kind != Kind::ProxyConfig,
            });
        }
        let given = self.given.take().map(|c| Object::ProxyConfig(Box::new(c)));
        batch.changes.extend(given.map(Change::Upsert));
        Some(batch)
    }

    fn waits_for(&self) -> Vec<String> {
        self.source.waits_for()
    }
}
