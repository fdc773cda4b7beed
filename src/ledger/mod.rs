//! All that is durable: intents and conclusions, authorities, issuers, anchors and bundles.
