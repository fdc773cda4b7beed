//! `Policy::decide`.

use std::time::Duration;

use rootbridge::policy::{Denial, Grant, PolicyInput, Scope};
use rootbridge::x509::{San, TrustDomain};

use crate::requests::{csr, policy, san};

pub(crate) const OWN: &str = "spiffe://td/ns/shop/sa/cart";
const OTHER: &str = "spiffe://td/ns/shop/sa/till";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// `web` takes the names of a CSR as they must match; `lenient` does not read them; `p256` certifies
/// one kind of key. Only `web` and `p256` have rules.
pub(crate) const POLICY: &str = "
    [profiles.web]
    default_ttl = '1h'
    max_ttl = '2h'
    [profiles.lenient]
    csr_names = 'ignore'
    [profiles.p256]
    keys = ['ecdsa-p256']
    [policy]
    default_profile = 'web'
    [[policy.rules]]
    callers = ['spiffe://td/ns/shop/sa/cart']
    profiles = ['web', 'p256']
    names = ['self', 'spiffe://td/ns/shop/sa/till', 'dns:*.shop.svc']
    [[policy.rules]]
    callers = ['spiffe://td/ns/shop/sa/till']
    profiles = ['lenient']
    names = ['spiffe://other/ns/shop/sa/cart', 'dns:till.shop.svc']
";

pub(crate) struct Request {
    pub(crate) identity: &'static str,
    pub(crate) trust_domain: &'static str,
    pub(crate) caller_name: Option<&'static str>,
    pub(crate) profile: &'static str,
    pub(crate) names: Vec<&'static str>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) scope: Scope,
    pub(crate) csr: Vec<&'static str>,
}

/// The cart asks for its own name, which no rule needs to allow.
pub(crate) fn own() -> Request {
    Request {
        identity: OWN,
        trust_domain: "td",
        caller_name: Some(OWN),
        profile: "",
        names: Vec::new(),
        ttl: None,
        scope: Scope::CallerName,
        csr: vec![OWN],
    }
}

/// The cart asks for the till's name, which a rule allows.
fn requested() -> Request {
    Request {
        names: vec![OTHER],
        csr: vec![OTHER],
        scope: Scope::Requested,
        ..own()
    }
}

pub(crate) fn decide(request: &Request) -> Result<Grant, Denial> {
    let trust_domain = TrustDomain::parse(request.trust_domain).unwrap();
    let names: Vec<San> = request.names.iter().map(|name| san(name)).collect();
    let caller_name = request.caller_name.map(san);
    let input = PolicyInput {
        trust_domain: &trust_domain,
        identity: request.identity,
        caller_name: caller_name.as_ref(),
        profile: request.profile,
        names: &names,
        ttl: request.ttl,
        scope: request.scope,
    };
    policy(POLICY).decide(&input, &csr(&request.csr))
}

fn granted(request: Request) -> Vec<String> {
    let grant = decide(&request).unwrap();
    grant.names().iter().map(ToString::to_string).collect()
}

fn denied(request: Request) -> Denial {
    decide(&request).unwrap_err()
}

#[test]
fn a_caller_has_its_own_name_without_a_rule() {
    let till = || Request {
        identity: OTHER,
        caller_name: Some(OTHER),
        csr: vec![],
        ..own()
    };
    assert_eq!(granted(own()), [OWN]);
    assert_eq!(granted(till()), [OTHER]);
    // A CSR without names says nothing against it.
    assert_eq!(
        granted(Request {
            csr: vec![],
            ..own()
        }),
        [OWN]
    );
    // By another profile than the API's it needs a rule, and the till has none.
    assert_eq!(
        granted(Request {
            scope: Scope::CallerNameByRule,
            ..own()
        }),
        [OWN]
    );
    let by_rule = denied(Request {
        scope: Scope::CallerNameByRule,
        ..till()
    });
    assert!(matches!(by_rule, Denial::NoRule { .. }), "{by_rule}");
    // Where any name may be requested, its own needs a rule as well.
    let requested = denied(Request {
        scope: Scope::Requested,
        ..till()
    });
    assert!(matches!(requested, Denial::NoRule { .. }), "{requested}");
}

#[test]
fn an_api_of_own_names_certifies_no_other() {
    for scope in [Scope::CallerName, Scope::CallerNameByRule] {
        // A field or a CSR that names another does not widen it: the names of the field are not
        // read, and those of the CSR must agree.
        assert_eq!(
            granted(Request {
                names: vec![OTHER],
                scope,
                ..own()
            }),
            [OWN]
        );
        let other = denied(Request {
            csr: vec![OTHER],
            scope,
            ..own()
        });
        assert!(matches!(other, Denial::CsrNamesDiffer { .. }), "{other}");
        let both = denied(Request {
            csr: vec![OWN, OTHER],
            scope,
            ..own()
        });
        assert!(matches!(both, Denial::CsrNamesDiffer { .. }), "{both}");
        let nameless = denied(Request {
            caller_name: None,
            csr: vec![],
            scope,
            ..own()
        });
        assert_eq!(nameless, Denial::NoNames);
        // Not even a rule: it is not the caller's own.
        let csr = denied(Request {
            caller_name: None,
            csr: vec![OTHER],
            scope,
            ..own()
        });
        assert_eq!(csr, Denial::NoNames);
    }
}

#[test]
fn a_requested_name_needs_a_rule_for_caller_profile_and_name() {
    assert_eq!(granted(requested()), [OTHER]);
    assert_eq!(
        granted(Request {
            profile: "p256",
            ..requested()
        }),
        [OTHER]
    );
    let web = "dns:web.shop.svc";
    assert_eq!(
        granted(Request {
            names: vec![web],
            csr: vec![],
            ..requested()
        }),
        [web]
    );
    for change in [
        Request {
            identity: "spiffe://td/ns/shop/sa/cart2",
            ..requested()
        },
        Request {
            identity: "operator:cart",
            ..requested()
        },
        Request {
            profile: "lenient",
            ..requested()
        },
        Request {
            names: vec!["spiffe://td/ns/shop/sa/till2"],
            csr: vec![],
            ..requested()
        },
        Request {
            names: vec!["dns:a.b.shop.svc"],
            csr: vec![],
            ..requested()
        },
        // One name that no rule allows is enough.
        Request {
            names: vec![OTHER, "dns:shop.svc"],
            csr: vec![],
            ..requested()
        },
    ] {
        let denial = denied(change);
        assert!(matches!(denial, Denial::NoRule { .. }), "{denial}");
    }
    let unknown = denied(Request {
        profile: "none",
        ..requested()
    });
    assert_eq!(unknown, Denial::UnknownProfile("none".to_owned()));
}

/// Even where a rule names it: a verifier speaks for one trust domain.
#[test]
fn a_name_of_another_trust_domain_is_never_granted() {
    let foreign = "spiffe://other/ns/shop/sa/cart";
    let rule = Request {
        identity: OTHER,
        profile: "lenient",
        csr: vec![],
        ..requested()
    };
    let denial = denied(Request {
        names: vec![foreign],
        ..rule
    });
    assert!(
        matches!(denial, Denial::ForeignTrustDomain { .. }),
        "{denial}"
    );
    for scope in [Scope::CallerName, Scope::CallerNameByRule, Scope::Requested] {
        let denial = denied(Request {
            trust_domain: "other",
            scope,
            ..own()
        });
        assert!(
            matches!(denial, Denial::ForeignTrustDomain { .. }),
            "{denial}"
        );
    }
    // A DNS name is in no trust domain.
    let dns = Request {
        identity: OTHER,
        trust_domain: "other",
        profile: "lenient",
        ..requested()
    };
    assert_eq!(
        granted(Request {
            names: vec!["dns:till.shop.svc"],
            ..dns
        }),
        ["dns:till.shop.svc"]
    );
}

#[test]
fn the_names_of_the_csr_are_those_of_the_request_or_of_none() {
    // Given in the CSR alone, they are the request.
    assert_eq!(
        granted(Request {
            names: vec![],
            ..requested()
        }),
        [OTHER]
    );
    // A part of what is requested is not the same, nor is more, nor another.
    for csr in [
        vec![OTHER],
        vec![OTHER, "dns:a.shop.svc", "dns:b.shop.svc"],
        vec![OWN],
    ] {
        let names = vec![OTHER, "dns:a.shop.svc"];
        let denial = denied(Request {
            names,
            csr,
            ..requested()
        });
        assert!(matches!(denial, Denial::CsrNamesDiffer { .. }), "{denial}");
    }
    let denial = denied(Request {
        names: vec!["dns:b.shop.svc", OTHER],
        csr: vec!["dns:a.shop.svc", OTHER],
        ..requested()
    });
    assert_eq!(
        denial,
        Denial::CsrNamesDiffer {
            csr: format!("{OTHER} dns:a.shop.svc"),
            requested: format!("{OTHER} dns:b.shop.svc"),
        }
    );
    // Their order is no matter; the request's counts.
    let (names, csr) = (vec![OTHER, "dns:a.shop.svc"], vec!["dns:a.shop.svc", OTHER]);
    let both = granted(Request {
        names: names.clone(),
        csr,
        ..requested()
    });
    assert_eq!(both, names);
    // A profile that does not read them takes neither a name nor a refusal from them.
    let lenient = || Request {
        profile: "lenient",
        csr: vec![OTHER],
        ..own()
    };
    assert_eq!(granted(lenient()), [OWN]);
    let none = Request {
        caller_name: None,
        scope: Scope::Requested,
        ..lenient()
    };
    assert_eq!(denied(none), Denial::NoNames);
}

/// X509-SVID section 2: with two, verifiers disagree about whose certificate it is.
#[test]
fn a_certificate_has_one_spiffe_id() {
    let cart = "spiffe://td/ns/shop/sa/cart";
    let both = Request {
        names: vec![OTHER, "dns:a.shop.svc", cart],
        csr: vec![],
        ..requested()
    };
    let mut ids = [OTHER, cart];
    ids.sort_unstable();
    assert_eq!(denied(both), Denial::SeveralIds(ids.join(" ")));
    let in_csr = Request {
        names: vec![],
        csr: vec![OTHER, cart],
        ..requested()
    };
    assert_eq!(denied(in_csr), Denial::SeveralIds(ids.join(" ")));
}

#[test]
fn a_name_is_certified_once_and_eight_at_the_most() {
    let twice = Request {
        names: vec![OTHER, OTHER, "dns:a.shop.svc", OTHER],
        csr: vec![],
        ..requested()
    };
    assert_eq!(granted(twice), [OTHER, "dns:a.shop.svc"]);
    let many = [
        "dns:a.shop.svc",
        "dns:b.shop.svc",
        "dns:c.shop.svc",
        "dns:d.shop.svc",
        "dns:e.shop.svc",
        "dns:f.shop.svc",
        "dns:g.shop.svc",
        "dns:h.shop.svc",
        "dns:i.shop.svc",
    ];
    let eight = Request {
        names: many[..8].to_vec(),
        csr: vec![],
        ..requested()
    };
    assert_eq!(granted(eight), many[..8]);
    let nine = denied(Request {
        names: many.to_vec(),
        csr: vec![],
        ..requested()
    });
    assert_eq!(
        nine,
        Denial::TooManyNames {
            requested: 9,
            limit: 8
        }
    );
}
