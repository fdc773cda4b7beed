//! What a call's method and path mean.

use http::{Method, Uri};

use super::config::{Mount, VaultConfig};
use super::error::VaultError;

/// What a method asks for: PUT is POST, and LIST is also GET with `?list=true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    List,
    Write,
    Delete,
}

impl Verb {
    pub(super) fn of(method: &Method, query: Option<&str>) -> Option<Self> {
        let lists = || {
            let pairs = query.unwrap_or_default().split('&');
            pairs
                .into_iter()
                .any(|pair| matches!(pair, "list=true" | "list=1"))
        };
        match *method {
            Method::GET if lists() => Some(Self::List),
            Method::GET | Method::HEAD => Some(Self::Read),
            Method::POST | Method::PUT => Some(Self::Write),
            Method::DELETE => Some(Self::Delete),
            _ if method.as_str() == "LIST" => Some(Self::List),
            _ => None,
        }
    }
}

/// A call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Health,
    SealStatus,
    /// At `auth/METHOD/login`.
    Login {
        method: &'a str,
    },
    OwnToken(TokenCall),
    ListMounts,
    /// `sys/mounts/NAME`, or its `/tune`.
    Mount {
        name: &'a str,
        call: MountCall,
    },
    Pki(&'a Mount, PkiCall<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenCall {
    Lookup,
    Renew,
    Revoke,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MountCall {
    Read,
    Enable,
    Disable,
    ReadTune,
    Tune,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PkiCall<'a> {
    CaDer,
    CaPem,
    CaChain,
    /// `cert/ca` and `cert/ca_chain`, in the envelope.
    CaData {
        chain: bool,
    },
    ListIssuers,
    Issuer(&'a str),
    IssuerPem(&'a str),
    ListKeys,
    Key(&'a str),
    DeleteKey(&'a str),
    DeleteIssuer(&'a str),
    DefaultIssuer,
    /// A setting that clients write and that nothing here depends on.
    WriteSetting,
    ReadSetting,
    ListRoles,
    Role(&'a str),
    WriteRole(&'a str),
    DeleteRole(&'a str),
    Sign(&'a str),
    SignIntermediate,
    GenerateIntermediate,
    SetSigned,
    GenerateRoot,
    DeleteRoot,
    SignSelfIssued,
    /// It makes a private key and sends it to the caller.
    IssueWithKey,
    Revoke,
}

impl Route<'_> {
    /// Whether anyone may call it.
    pub(super) fn is_open(&self) -> bool {
        use PkiCall::{CaChain, CaData, CaDer, CaPem, IssuerPem};
        matches!(
            self,
            Self::Health
                | Self::SealStatus
                | Self::Login { .. }
                | Self::Pki(_, CaDer | CaPem | CaChain | CaData { .. } | IssuerPem(_))
        )
    }
}

/// The path below `/v1/`, without the namespace where it begins with one.
pub(super) fn path_in<'p>(
    config: &VaultConfig,
    uri: &'p Uri,
    header: &str,
) -> Result<(String, &'p str), VaultError> {
    let path = uri.path();
    let no_handler = || VaultError::NoHandler {
        path: path.chars().take(256).collect(),
    };
    let path = path.strip_prefix("/v1/").ok_or_else(no_handler)?;
    let path = path.trim_matches('/');
    let header = match header.trim_matches('/') {
        "root" => "",
        header => header,
    };
    // A client's namespace is that of its mounts: health is the server's.
    if matches!(path, "sys/health" | "sys/seal-status") {
        return Ok((String::new(), path));
    }
    if !config.has_namespace(header) {
        return Err(no_handler());
    }
    if header.is_empty() {
        let namespaces = config.mounts().iter().map(|mount| mount.namespace.as_str());
        for namespace in namespaces.filter(|namespace| !namespace.is_empty()) {
            let rest = path.strip_prefix(namespace);
            if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('/')) {
                return Ok((namespace.to_owned(), rest));
            }
        }
    }
    Ok((header.to_owned(), path))
}

impl<'a> Route<'a> {
    pub(super) fn parse(
        config: &'a VaultConfig,
        namespace: &str,
        path: &'a str,
        verb: Option<Verb>,
    ) -> Result<Self, VaultError> {
        use Verb::{Delete, List, Read, Write};
        let verb = verb.ok_or(VaultError::UnsupportedOperation)?;
        let no_handler = || VaultError::NoHandler {
            path: path.chars().take(256).collect(),
        };
        let route = match path {
            "sys/health" => only(verb, Read, Self::Health),
            "sys/seal-status" => only(verb, Read, Self::SealStatus),
            "sys/mounts" => match verb {
                Read | List => Some(Self::ListMounts),
                _ => None,
            },
            "auth/token/lookup-self" => match verb {
                Read | Write => Some(Self::OwnToken(TokenCall::Lookup)),
                _ => None,
            },
            "auth/token/renew-self" => only(verb, Write, Self::OwnToken(TokenCall::Renew)),
            "auth/token/revoke-self" => only(verb, Write, Self::OwnToken(TokenCall::Revoke)),
            _ => {
                if let Some(rest) = path.strip_prefix("auth/") {
                    let method = rest.strip_suffix("/login").ok_or_else(no_handler)?;
                    return only(verb, Write, Self::Login { method })
                        .ok_or(VaultError::UnsupportedOperation);
                }
                if let Some(rest) = path.strip_prefix("sys/mounts/") {
                    let (name, call) = match (rest.strip_suffix("/tune"), verb) {
                        (Some(name), Read) => (name, MountCall::ReadTune),
                        (Some(name), Write) => (name, MountCall::Tune),
                        (None, Read) => (rest, MountCall::Read),
                        (None, Write) => (rest, MountCall::Enable),
                        (None, Delete) => (rest, MountCall::Disable),
                        _ => return Err(VaultError::UnsupportedOperation),
                    };
                    return Ok(Self::Mount { name, call });
                }
                let (mount, rest) = config.find(namespace, path).ok_or_else(no_handler)?;
                return Ok(Self::Pki(mount, pki(rest, verb)?));
            }
        };
        route.ok_or(VaultError::UnsupportedOperation)
    }
}

fn only<T>(verb: Verb, wanted: Verb, value: T) -> Option<T> {
    (verb == wanted).then_some(value)
}

fn pki(path: &str, verb: Verb) -> Result<PkiCall<'_>, VaultError> {
    use PkiCall as Call;
    use Verb::{Delete, List, Read, Write};
    let segments: Vec<&str> = path.split('/').collect();
    let (call, known): (Option<Call<'_>>, bool) = match (segments.as_slice(), verb) {
        (["ca"], Read) => (Some(Call::CaDer), true),
        (["ca", "pem"], Read) => (Some(Call::CaPem), true),
        (["ca_chain"], Read) => (Some(Call::CaChain), true),
        (["cert", "ca"], Read) => (Some(Call::CaData { chain: false }), true),
        (["cert", "ca_chain"], Read) => (Some(Call::CaData { chain: true }), true),
        (["ca"] | ["ca", "pem"] | ["ca_chain"] | ["cert", "ca" | "ca_chain"], _) => (None, true),
        (["issuers"], List | Read) => (Some(Call::ListIssuers), true),
        (["issuer", id], Read) => (Some(Call::Issuer(id)), true),
        (["issuer", _], Write) => (Some(Call::WriteSetting), true),
        (["issuer", id], Delete) => (Some(Call::DeleteIssuer(id)), true),
        (["issuer", id, "json"], Read) => (Some(Call::Issuer(id)), true),
        (["issuer", id, "pem"], Read) => (Some(Call::IssuerPem(id)), true),
        (["issuer", _, "sign", role], Write) => (Some(Call::Sign(role)), true),
        (["issuer", _, "sign-intermediate"], Write) => (Some(Call::SignIntermediate), true),
        (["issuers"] | ["issuer", _] | ["issuer", _, "json" | "pem"], _) => (None, true),
        (["keys"], List | Read) => (Some(Call::ListKeys), true),
        (["key", id], Read) => (Some(Call::Key(id)), true),
        (["key", _], Write) => (Some(Call::WriteSetting), true),
        (["key", id], Delete) => (Some(Call::DeleteKey(id)), true),
        (["config", "issuers"], Read) => (Some(Call::DefaultIssuer), true),
        (
            [
                "config",
                "issuers" | "auto-tidy" | "urls" | "crl" | "cluster" | "keys",
            ],
            Write,
        ) => (Some(Call::WriteSetting), true),
        (["config", "auto-tidy" | "urls" | "crl" | "cluster"], Read) => {
            (Some(Call::ReadSetting), true)
        }
        (["roles"], List | Read) => (Some(Call::ListRoles), true),
        (["roles", role], Read) => (Some(Call::Role(role)), true),
        (["roles", role], Write) => (Some(Call::WriteRole(role)), true),
        (["roles", role], Delete) => (Some(Call::DeleteRole(role)), true),
        (["sign", role], Write) => (Some(Call::Sign(role)), true),
        (["issue", _], Write) => (Some(Call::IssueWithKey), true),
        (["root", "sign-intermediate"], Write) => (Some(Call::SignIntermediate), true),
        (["root", "sign-self-issued"], Write) => (Some(Call::SignSelfIssued), true),
        (["root", "generate", _], Write) => (Some(Call::GenerateRoot), true),
        (["root"], Delete) => (Some(Call::DeleteRoot), true),
        (["intermediate", "generate", "internal" | "existing" | "kms"], Write) => {
            (Some(Call::GenerateIntermediate), true)
        }
        (["intermediate", "generate", "exported"], Write) => (Some(Call::IssueWithKey), true),
        (["intermediate", "set-signed"], Write) => (Some(Call::SetSigned), true),
        (["revoke"], Write) => (Some(Call::Revoke), true),
        (
            ["keys" | "roles" | "root" | "revoke"]
            | [
                "key" | "roles" | "sign" | "issue" | "root" | "intermediate",
                _,
            ]
            | [
                "config",
                "issuers" | "auto-tidy" | "urls" | "crl" | "cluster" | "keys",
            ]
            | ["root" | "intermediate", "generate", _],
            _,
        ) => (None, true),
        _ => (None, false),
    };
    match (call, known) {
        (Some(call), _) if segments.iter().all(|segment| is_name(segment)) => Ok(call),
        (None, true) => Err(VaultError::UnsupportedOperation),
        _ => Err(VaultError::UnsupportedPath),
    }
}

/// Names of roles, issuers and keys reach answers and logs.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=128).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config_issue::ConfigIssues;

    fn config() -> VaultConfig {
        let raw =
            "[mount.pki]\nauthority = 'td'\n[mount.team-pki]\nauthority = 'td'\nnamespace = 'team'";
        VaultConfig::check(toml::from_str(raw).unwrap(), &mut ConfigIssues::default())
    }

    #[test]
    fn methods_mean_what_they_mean_to_vault() {
        let list = Method::from_bytes(b"LIST").unwrap();
        for (method, query, verb) in [
            (&Method::GET, None, Some(Verb::Read)),
            (&Method::GET, Some("list=true"), Some(Verb::List)),
            (&Method::GET, Some("a=b&list=1"), Some(Verb::List)),
            (&Method::GET, Some("list=false"), Some(Verb::Read)),
            (&Method::HEAD, None, Some(Verb::Read)),
            (&list, None, Some(Verb::List)),
            (&Method::POST, None, Some(Verb::Write)),
            (&Method::PUT, Some("list=true"), Some(Verb::Write)),
            (&Method::DELETE, None, Some(Verb::Delete)),
            (&Method::PATCH, None, None),
            (&Method::OPTIONS, None, None),
        ] {
            assert_eq!(Verb::of(method, query), verb, "{method} {query:?}");
        }
    }

    #[test]
    fn a_path_is_a_call_of_one_method_or_an_error() {
        let config = config();
        let parse = |path, verb| {
            let parsed = Route::parse(&config, "", path, Some(verb));
            parsed.map_err(|error| error.to_string())
        };
        let unsupported = VaultError::UnsupportedOperation.to_string();
        let unknown = VaultError::UnsupportedPath.to_string();
        let pki = |path, verb| match parse(path, verb) {
            Ok(Route::Pki(_, call)) => Ok(call),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(pki("pki/sign/web", Verb::Write), Ok(PkiCall::Sign("web")));
        assert_eq!(parse("pki/sign/web", Verb::Read).unwrap_err(), unsupported);
        assert_eq!(parse("pki/sign/a%2fb", Verb::Write).unwrap_err(), unknown);
        assert_eq!(parse("pki/ca/pem", Verb::Write).unwrap_err(), unsupported);
        assert_eq!(parse("pki/nothing", Verb::Read).unwrap_err(), unknown);
        assert_eq!(parse("pki", Verb::Read).unwrap_err(), unknown);
        assert!(
            parse("other/ca/pem", Verb::Read)
                .unwrap_err()
                .starts_with("no mount")
        );
        assert!(
            parse("team-pki/ca/pem", Verb::Read)
                .unwrap_err()
                .starts_with("no mount")
        );
        assert_eq!(parse("sys/health", Verb::Write).unwrap_err(), unsupported);
        let mount = Route::Mount {
            name: "a/b",
            call: MountCall::Tune,
        };
        assert_eq!(parse("sys/mounts/a/b/tune", Verb::Write), Ok(mount));
        let login = Route::Login {
            method: "east/prod",
        };
        assert_eq!(parse("auth/east/prod/login", Verb::Write), Ok(login));
    }

    #[test]
    fn a_namespace_is_in_the_header_or_before_the_path() {
        let config = config();
        let find = |path: &str, header: &str| {
            let uri: Uri = path.parse().unwrap();
            let found = path_in(&config, &uri, header);
            found
                .map(|(namespace, rest)| format!("{namespace}:{rest}"))
                .ok()
        };
        assert_eq!(find("/v1/pki/ca/pem", "").unwrap(), ":pki/ca/pem");
        assert_eq!(find("/v1/pki/ca/pem", "root").unwrap(), ":pki/ca/pem");
        assert_eq!(
            find("/v1/team-pki/ca", "team/").unwrap(),
            "team:team-pki/ca"
        );
        assert_eq!(
            find("/v1/team/team-pki/ca", "").unwrap(),
            "team:team-pki/ca"
        );
        assert_eq!(find("/v1/pki/ca", "elsewhere"), None);
        assert_eq!(find("/v2/pki/ca", ""), None);
    }
}
