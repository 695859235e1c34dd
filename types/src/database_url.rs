//! Where a database is and how to get in: libpq's connection strings.
//!
//! Both of libpq's forms are read (PostgreSQL manual, 34.1.1 "Connection Strings"): the URL
//! `postgres://user:password@host:port/database?parameter=value`, with several hosts, and `host=… dbname=…`. What
//! libpq takes from the environment, from the operating system or from files is left to the caller, who passes it as
//! defaults. Parameters that Convoy does not heed are refused rather than ignored.
//!
//! `connection_string.rs` takes a string apart into parameters; this file says what they mean.

use crate::connection_string::{Parameters, encode};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// Where Postgres listens unless told otherwise.
const PORT_DEFAULT: u16 = 5432;
/// Where Unix sockets usually are: Debian's and Red Hat's folder, and Postgres' own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// How long a host is tried.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// One place to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name or an address on the network.
    Tcp {
        /// The name, or the address without brackets.
        name: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// The folder in which the socket `.s.PGSQL.<port>` lies.
        directory: PathBuf,
        /// The port, which is part of the socket's name.
        port: u16,
    },
}

/// An enum whose variants are a parameter's values.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $parameter:literal, { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Returns the parameter's value that says so.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            fn read(text: &str) -> Result<Self, ParseUrlError> {
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err(ParseUrlError::InvalidValue {
                        parameter: $parameter,
                        expected: concat!("one of", $(" ", $text),+),
                    }),
                }
            }
        }
    };
}

choice! {
    /// Whether a connection is encrypted, and what is checked (PostgreSQL manual, 34.19 "SSL Support").
    ///
    /// Unix sockets are never encrypted, whatever this says.
    SslMode, "sslmode", {
        /// Never encrypted.
        Disable = "disable",
        /// Encrypted only where the server insists.
        Allow = "allow",
        /// Encrypted where the server can.
        #[default]
        Prefer = "prefer",
        /// Always encrypted; the certificate is checked as by `verify-ca` where a root certificate is given, else not.
        Require = "require",
        /// Always encrypted, by a certificate of a known authority.
        VerifyCa = "verify-ca",
        /// Always encrypted, by a certificate of a known authority for this very host.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// Whether a password is bound to the encrypted channel, so that nobody between can use it.
    ChannelBinding, "channel_binding", {
        /// Never.
        Disable = "disable",
        /// Where the server can.
        #[default]
        Prefer = "prefer",
        /// Always.
        Require = "require",
    }
}

choice! {
    /// Which of several servers will do.
    TargetSessionAttrs, "target_session_attrs", {
        /// Any.
        #[default]
        Any = "any",
        /// One whose sessions may write by default.
        ReadWrite = "read-write",
        /// One whose sessions may not write by default.
        ReadOnly = "read-only",
        /// One that is no standby.
        Primary = "primary",
        /// A standby.
        Standby = "standby",
        /// A standby, else any.
        PreferStandby = "prefer-standby",
    }
}

/// Where a database is and how to get in.
///
/// Neither `Display` nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// The places to try, in order; never empty. Where the string names none: the usual socket folders, then localhost.
    pub hosts: Vec<Host>,
    /// The role to log in as.
    pub user: String,
    /// The role's password.
    pub password: Option<String>,
    /// The database's name.
    pub database: String,
    /// Whether and how the connection is encrypted.
    pub ssl_mode: SslMode,
    /// The file with the authorities' certificates; `system` for the operating system's own.
    pub ssl_root_cert: Option<PathBuf>,
    /// The file with our own certificate.
    pub ssl_cert: Option<PathBuf>,
    /// The file with our own certificate's key.
    pub ssl_key: Option<PathBuf>,
    /// Whether the password is bound to the encrypted channel.
    pub channel_binding: ChannelBinding,
    /// How long each host is tried.
    pub connect_timeout: Duration,
    /// The name that `pg_stat_activity` shows.
    pub application_name: Option<String>,
    /// The server's command-line options for the session (`-c name=value`).
    pub options: Option<String>,
    /// Which of several hosts will do.
    pub target_session_attrs: TargetSessionAttrs,
}

/// A text that is no connection string. Never holds what might be the password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseUrlError {
    /// It is neither a URL of ours nor `keyword=value` pairs.
    #[error(
        "a database URL looks like postgres://user:password@host:5432/database, or like host=… user=… dbname=…"
    )]
    NotAUrl,
    /// A `%` without two hexadecimal digits, or one that makes no UTF-8 or a null character.
    #[error("the {part} in the database URL has a stray %: a percent sign itself is written %25")]
    Encoding {
        /// Where it is.
        part: &'static str,
    },
    /// An `@` in the password, or something else that is in no host's name.
    #[error(
        "the host in the database URL is none: in a user or password, @ is written %40, / is %2F and : is %3A"
    )]
    Host,
    /// A `[` without its `]`.
    #[error("an IPv6 address in the database URL looks like [2001:db8::1]")]
    Ipv6,
    /// A parameter that Convoy does not heed.
    #[error("the database URL's parameter {name:?} is unknown; known are {}", Parameters::NAMES.join(", "))]
    UnknownParameter {
        /// Its name, or the beginning of it.
        name: String,
    },
    /// A parameter's value that is none.
    #[error("the database URL's {parameter} must be {expected}")]
    InvalidValue {
        /// The parameter.
        parameter: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Not as many ports as hosts.
    #[error(
        "the database URL has {hosts} hosts but {ports} ports: give one port for all, or one for each"
    )]
    PortCount {
        /// How many hosts.
        hosts: usize,
        /// How many ports.
        ports: usize,
    },
    /// A parameter without a value, in either form.
    #[error("the database URL has a parameter without a value: each is written parameter=value")]
    NoValue,
    /// A quote without an end.
    #[error("the database URL has an opening quote without a closing one")]
    OpenQuote,
    /// Nobody to log in as.
    #[error("the database URL names no user: it looks like postgres://user@host/database")]
    NoUser,
}

impl FromStr for DatabaseUrl {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, ParseUrlError> {
        Self::parse_with_defaults(text, &[])
    }
}

impl DatabaseUrl {
    /// Reads a connection string; what it leaves open is taken from `defaults`, parameters by libpq's names.
    ///
    /// ```
    /// use convoy_types::DatabaseUrl;
    /// # fn main() -> Result<(), convoy_types::ParseUrlError> {
    /// let url = DatabaseUrl::parse_with_defaults("postgres://db.example/shop", &[("user", "ann")])?;
    /// assert_eq!(url.to_string(), "postgres://ann@db.example:5432/shop");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A [`ParseUrlError`] that says what is wrong with the string, or with a default.
    pub fn parse_with_defaults(
        text: &str,
        defaults: &[(&str, &str)],
    ) -> Result<Self, ParseUrlError> {
        let mut parameters = Parameters::read(text)?;
        for (name, value) in defaults {
            parameters.set_default(name, value)?;
        }
        Self::from_parameters(&parameters)
    }

    fn from_parameters(parameters: &Parameters) -> Result<Self, ParseUrlError> {
        // As in libpq, an empty value counts as none.
        let text = |name| parameters.get(name).filter(|value| !value.is_empty());
        let string = |name| text(name).map(str::to_owned);
        let path = |name| text(name).map(PathBuf::from);
        let user = string("user").ok_or(ParseUrlError::NoUser)?;
        let ssl_root_cert = path("sslrootcert");
        Ok(DatabaseUrl {
            hosts: read_hosts(text("host"), text("port"))?,
            password: string("password"),
            database: string("dbname").unwrap_or_else(|| user.clone()),
            user,
            ssl_mode: read_ssl_mode(text("sslmode"), text("sslrootcert"))?,
            ssl_root_cert,
            ssl_cert: path("sslcert"),
            ssl_key: path("sslkey"),
            channel_binding: text("channel_binding")
                .map_or(Ok(ChannelBinding::default()), ChannelBinding::read)?,
            connect_timeout: text("connect_timeout")
                .map_or(Ok(CONNECT_TIMEOUT_DEFAULT), read_timeout)?,
            application_name: string("application_name"),
            options: string("options"),
            target_session_attrs: text("target_session_attrs")
                .map_or(Ok(TargetSessionAttrs::default()), TargetSessionAttrs::read)?,
        })
    }

    /// Returns the same way in to another database.
    #[must_use]
    pub fn with_database(&self, name: impl Into<String>) -> Self {
        DatabaseUrl { database: name.into(), ..self.clone() }
    }

    /// Returns the whole URL, **password included**, for another program; reading it gives an equal value.
    pub fn to_url_with_password(&self) -> String {
        let mut url = self.show(self.password.as_deref());
        let path =
            |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let parameters = [
            ("sslmode", Some(self.ssl_mode.as_str().to_owned())),
            ("sslrootcert", path(&self.ssl_root_cert)),
            ("sslcert", path(&self.ssl_cert)),
            ("sslkey", path(&self.ssl_key)),
            ("channel_binding", Some(self.channel_binding.as_str().to_owned())),
            ("connect_timeout", Some(self.connect_timeout.as_secs().to_string())),
            ("application_name", self.application_name.clone()),
            ("options", self.options.clone()),
            ("target_session_attrs", Some(self.target_session_attrs.as_str().to_owned())),
        ];
        let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (position, (name, value)) in given.enumerate() {
            let separator = if position == 0 { '?' } else { '&' };
            url.extend([separator.to_string(), name.to_owned(), "=".to_owned(), encode(&value)]);
        }
        url
    }

    fn show(&self, password: Option<&str>) -> String {
        let password =
            password.map(|password| format!(":{}", encode(password))).unwrap_or_default();
        let hosts: Vec<_> = self.hosts.iter().map(Host::to_string).collect();
        format!(
            "postgres://{}{password}@{}/{}",
            encode(&self.user),
            hosts.join(","),
            encode(&self.database)
        )
    }
}

impl fmt::Display for DatabaseUrl {
    /// Shows who, where and which database; neither the password nor the parameters, for logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.show(None))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DatabaseUrl")
            .field("url", &format_args!("{self}"))
            .field("password", &self.password.as_ref().map(|_| format_args!("hidden")))
            .field("ssl_mode", &self.ssl_mode)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Host {
    /// Shows it as in a URL: `db.example:5432`, `[::1]:5432`, `%2Ftmp:5432`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // An address of IPv6, whose zone comes after a percent sign (RFC 6874).
            Host::Tcp { name, port } if name.contains(':') => {
                write!(formatter, "[{}]:{port}", encode(name).replace("%3A", ":"))
            }
            Host::Tcp { name, port } => write!(formatter, "{}:{port}", encode(name)),
            Host::Unix { directory, port } => {
                write!(formatter, "{}:{port}", encode(&directory.to_string_lossy()))
            }
        }
    }
}

/// Joins `host=h1,h2` with `port=p1,p2`.
fn read_hosts(hosts: Option<&str>, ports: Option<&str>) -> Result<Vec<Host>, ParseUrlError> {
    let hosts: Vec<_> = hosts.unwrap_or_default().split(',').collect();
    let ports =
        ports.unwrap_or_default().split(',').map(read_port).collect::<Result<Vec<_>, _>>()?;
    if ports.len() != 1 && ports.len() != hosts.len() {
        return Err(ParseUrlError::PortCount { hosts: hosts.len(), ports: ports.len() });
    }
    let ports = ports.iter().copied().cycle();
    Ok(hosts.into_iter().zip(ports).flat_map(|(host, port)| read_host(host, port)).collect())
}

fn read_host(host: &str, port: u16) -> Vec<Host> {
    let unix = |directory: &str| Host::Unix { directory: PathBuf::from(directory), port };
    let tcp = |name: &str| Host::Tcp { name: name.to_owned(), port };
    if host.is_empty() {
        SOCKET_DIRECTORIES.map(unix).into_iter().chain([tcp("localhost")]).collect()
    } else if host.starts_with('/') {
        vec![unix(host)]
    } else {
        vec![tcp(host)]
    }
}

fn read_port(text: &str) -> Result<u16, ParseUrlError> {
    if text.is_empty() {
        return Ok(PORT_DEFAULT);
    }
    // The text itself is not shown: it is the password where an @ or a / in that was not encoded.
    text.parse().ok().filter(|&port| port > 0).ok_or(ParseUrlError::InvalidValue {
        parameter: "port",
        expected: "a number from 1 to 65535 (and in a password, : is written %3A, @ is %40 and / is %2F)",
    })
}

/// The system's authorities vouch for anybody, so libpq allows them only where the host's name is checked.
fn read_ssl_mode(mode: Option<&str>, root_cert: Option<&str>) -> Result<SslMode, ParseUrlError> {
    let mode = mode.map(SslMode::read).transpose()?;
    match (mode, root_cert) {
        (None | Some(SslMode::VerifyFull), Some("system")) => Ok(SslMode::VerifyFull),
        (Some(_), Some("system")) => Err(ParseUrlError::InvalidValue {
            parameter: "sslmode",
            expected: "verify-full with sslrootcert=system",
        }),
        (mode, _) => Ok(mode.unwrap_or_default()),
    }
}

fn read_timeout(text: &str) -> Result<Duration, ParseUrlError> {
    let seconds = text.trim().parse::<u32>().ok().filter(|&seconds| seconds > 0);
    seconds.map(|seconds| Duration::from_secs(seconds.into())).ok_or(ParseUrlError::InvalidValue {
        parameter: "connect_timeout",
        expected: "a number of seconds from 1 on: Convoy never waits without a limit",
    })
}

#[cfg(test)]
#[path = "database_url_tests.rs"]
mod tests;
