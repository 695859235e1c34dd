//! Takes libpq's two forms of a connection string apart into parameters and their texts, without reading meaning into
//! them: that is `database_url.rs`'s.

use crate::database_url::ParseUrlError;

/// A parameter's name.
type Name = &'static str;

/// The parameters that a string gave, under libpq's names; several hosts and ports are joined by commas.
#[derive(Default)]
pub(crate) struct Parameters(Vec<(Name, String)>);

impl Parameters {
    /// The parameters that Convoy heeds (PostgreSQL manual, 34.1.2 "Parameter Key Words").
    pub(crate) const NAMES: [Name; 15] = [
        "host",
        "port",
        "user",
        "password",
        "dbname",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "channel_binding",
        "connect_timeout",
        "application_name",
        "options",
        "target_session_attrs",
        "ssl",
    ];

    /// Takes a string apart.
    pub(crate) fn read(text: &str) -> Result<Self, ParseUrlError> {
        let text = text.trim();
        let mut parameters = Parameters::default();
        match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
            Some(url) => parameters.read_url(url)?,
            // Another program's URL, or nothing like one.
            None if text.split_once('=').is_none_or(|(name, _)| name.contains("://")) => {
                return Err(ParseUrlError::NotAUrl);
            }
            None => parameters.read_pairs(text)?,
        }
        Ok(parameters)
    }

    /// Returns the parameter's text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    /// Sets a parameter unless it is set.
    pub(crate) fn set_default(&mut self, name: &str, value: &str) -> Result<(), ParseUrlError> {
        if self.get(name).is_none_or(str::is_empty) {
            self.set(name, value.to_owned())
        } else {
            Ok(())
        }
    }

    /// Sets a parameter; the last one counts, as in libpq.
    fn set(&mut self, name: &str, value: String) -> Result<(), ParseUrlError> {
        const SHOWN_CHARACTERS: usize = 40;
        let (name, value) = match (name, value.as_str()) {
            // JDBC's spelling, which libpq reads in URLs too.
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            ("ssl", _) => {
                return Err(ParseUrlError::InvalidValue { parameter: "ssl", expected: "true" });
            }
            _ => (name, value),
        };
        let name = Self::NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
            ParseUrlError::UnknownParameter { name: name.chars().take(SHOWN_CHARACTERS).collect() }
        })?;
        if value.contains('\0') {
            return Err(ParseUrlError::Encoding { part: name });
        }
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, value));
        Ok(())
    }

    /// Reads `[user[:password]@][host[:port],…][/dbname][?parameter=value&…]`.
    fn read_url(&mut self, url: &str) -> Result<(), ParseUrlError> {
        // As libpq: the first @ ends user and password, unless a / comes before it.
        let rest = match url.split_once('@') {
            Some((login, rest)) if !login.contains('/') => {
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (login, None),
                };
                self.set("user", decode(user, "user")?)?;
                if let Some(password) = password {
                    self.set("password", decode(password, "password")?)?;
                }
                rest
            }
            _ => url,
        };
        let (hosts, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        self.read_authority(hosts)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        if let Some(database) = path.strip_prefix('/').filter(|database| !database.is_empty()) {
            self.set("dbname", decode(database, "database")?)?;
        }
        for pair in
            query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').ok_or(ParseUrlError::NoValue)?;
            let name = decode(name, "parameters")?;
            self.set(&name, decode(value, "parameters")?)?;
        }
        Ok(())
    }

    /// Reads `host[:port],…`.
    fn read_authority(&mut self, text: &str) -> Result<(), ParseUrlError> {
        if text.is_empty() {
            return Ok(());
        }
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for place in text.split(',') {
            let (host, port) = match place.strip_prefix('[') {
                Some(address) => {
                    let (address, port) = address.split_once(']').ok_or(ParseUrlError::Ipv6)?;
                    let port = if port.is_empty() { Some("") } else { port.strip_prefix(':') };
                    (address, port.ok_or(ParseUrlError::Ipv6)?)
                }
                None => place.split_once(':').unwrap_or((place, "")),
            };
            // An @ was meant to be part of the password.
            if host.contains(['@', '[', ']', ' ']) || port.contains('@') {
                return Err(ParseUrlError::Host);
            }
            hosts.push(decode(host, "host")?);
            ports.push(decode(port, "port")?);
        }
        self.set("host", hosts.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            self.set("port", ports.join(","))?;
        }
        Ok(())
    }

    /// Reads `keyword = value keyword='a value' …`; a backslash takes the next character as it is.
    fn read_pairs(&mut self, text: &str) -> Result<(), ParseUrlError> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, behind) = rest.split_once('=').ok_or(ParseUrlError::NoValue)?;
            let name = name.trim_end();
            if name.contains(char::is_whitespace) {
                return Err(ParseUrlError::NoValue);
            }
            let behind = behind.trim_start();
            let (value, behind) = match behind.strip_prefix('\'') {
                Some(quoted) => {
                    let (value, behind) = read_value(quoted, |character| character == '\'');
                    (value, behind.ok_or(ParseUrlError::OpenQuote)?)
                }
                None => {
                    let (value, behind) = read_value(behind, char::is_whitespace);
                    (value, behind.unwrap_or_default())
                }
            };
            self.set(name, value)?;
            rest = behind.trim_start();
        }
        Ok(())
    }
}

/// Reads up to the first character that `ends` the value and was not taken by a backslash; returns also what is behind
/// it, `None` where there is no such character.
fn read_value(text: &str, ends: impl Fn(char) -> bool) -> (String, Option<&str>) {
    let mut value = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => value.extend(characters.next()),
            _ if ends(character) => return (value, Some(characters.as_str())),
            _ => value.push(character),
        }
    }
    (value, None)
}

/// Takes percent-encoding away.
fn decode(text: &str, part: &'static str) -> Result<String, ParseUrlError> {
    let error = || ParseUrlError::Encoding { part };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>().ok_or_else(error)?;
        let digit =
            |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(digits[0]).ok_or_else(error)? << 4 | digit(digits[1]).ok_or_else(error)?);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| error())
}

/// Percent-encodes all but what RFC 3986 calls unreserved.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
