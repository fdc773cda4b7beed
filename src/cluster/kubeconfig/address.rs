//! Addresses: the API server's and its proxy's, as client-go reads them.

use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;

use super::error::KubeconfigError;
use crate::cluster::target::{Proxy, ProxyKind};
use crate::cluster::text::one_line;

/// A variable of the environment.
pub(super) type Variable<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The API server's URL. Without a scheme, client-go's is http.
pub(super) fn server(written: &str) -> Result<Uri, KubeconfigError> {
    let refused = || KubeconfigError::Server(without_user(written));
    let uri = match split_scheme(written) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => format!("https://{rest}"),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
            return Err(KubeconfigError::NotHttps(without_user(written)));
        }
        Some(_) => return Err(refused()),
        None => return Err(KubeconfigError::NotHttps(without_user(written))),
    };
    let uri: Uri = uri.parse().map_err(|_| refused())?;
    let authority = uri.authority().ok_or_else(refused)?;
    let plain = !authority.as_str().contains('@') && uri.query().is_none();
    match plain && !authority.host().is_empty() {
        true => Ok(uri),
        false => Err(refused()),
    }
}

/// The name in the API server's certificate.
pub(super) fn server_name(
    server: &Uri,
    written: Option<&str>,
) -> Result<ServerName<'static>, KubeconfigError> {
    let name = written.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| host(server)).to_owned();
    let shown = one_line(&name, 200);
    ServerName::try_from(name).map_err(|_| KubeconfigError::ServerName(shown))
}

/// The proxy of a kubeconfig or, without one, of the environment.
pub(super) fn proxy(
    written: Option<&str>,
    server: &Uri,
    variable: Variable<'_>,
) -> Result<Option<Proxy>, KubeconfigError> {
    match written.filter(|written| !written.is_empty()) {
        Some(written) => {
            let refused = || KubeconfigError::Proxy(without_user(written));
            let (scheme, _) = split_scheme(written).ok_or_else(refused)?;
            parse(scheme, written).map(Some).ok_or_else(refused)
        }
        None => proxy_of_environment(server, variable),
    }
}

/// HTTPS_PROXY and NO_PROXY, as Go's net/http reads them.
pub(super) fn proxy_of_environment(
    server: &Uri,
    variable: Variable<'_>,
) -> Result<Option<Proxy>, KubeconfigError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let Some(written) = set("HTTPS_PROXY").or_else(|| set("https_proxy")) else {
        return Ok(None);
    };
    let host = host(server);
    if host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) {
        return Ok(None);
    }
    let without = set("NO_PROXY")
        .or_else(|| set("no_proxy"))
        .unwrap_or_default();
    let port = server.port_u16().unwrap_or(443).to_string();
    // An entry with a port is for that port alone.
    let entries =
        without
            .split(',')
            .map(str::trim)
            .filter_map(|entry| match entry.rsplit_once(':') {
                Some((host, of)) if !host.contains(':') || host.ends_with(']') => {
                    (of == port).then(|| host.trim_matches(['[', ']']))
                }
                _ => Some(entry),
            });
    let entries = entries.collect::<Vec<_>>().join(",");
    let matcher = Matcher::builder().https("http://p").no(entries).build();
    if matcher.intercept(server).is_none() {
        return Ok(None);
    }
    let (scheme, whole) = match split_scheme(&written) {
        Some((scheme, _)) => (scheme, written.clone()),
        None => ("http", format!("http://{written}")),
    };
    let proxy = parse(scheme, &whole);
    proxy.map(Some).ok_or(KubeconfigError::ProxyVariable)
}

fn parse(scheme: &str, written: &str) -> Option<Proxy> {
    let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (ProxyKind::Http, 80),
        "https" => (ProxyKind::Https, 443),
        "socks5" => (ProxyKind::Socks5, 1080),
        _ => return None,
    };
    let (_, rest) = split_scheme(written)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, authority),
    };
    let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let user = match user {
        None => None,
        Some(user) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            Some((decoded(name)?, decoded(password)?))
        }
    };
    let parsed: Uri = format!("http://{address}").parse().ok()?;
    let (host, port) = (parsed.host()?, parsed.port_u16().unwrap_or(port));
    let address = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(format!("{host}:{port}"))
        .path_and_query("/")
        .build()
        .ok()
        .filter(|_| !host.is_empty())?;
    Some(Proxy {
        kind,
        address,
        user,
    })
}

fn split_scheme(url: &str) -> Option<(&str, &str)> {
    url.split_once("://")
}

/// Without the brackets of an IPv6 address.
fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// For a message: a URL may hold a password, and its query a token.
fn without_user(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let rest = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    one_line(rest, 200)
}
