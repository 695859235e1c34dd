//! Connection strings and what they mean.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> DatabaseUrl {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn refuse(text: &str) -> ParseUrlError {
    text.parse::<DatabaseUrl>().expect_err(text)
}

fn tcp(name: &str, port: u16) -> Host {
    Host::Tcp { name: name.to_owned(), port }
}

fn unix(directory: &str, port: u16) -> Host {
    Host::Unix { directory: directory.into(), port }
}

#[test]
fn a_full_url() {
    let url = parse(
        "postgresql://ann:p%40ss%2F%3A%25@db.example:6543/my%20shop?sslmode=verify-full&sslrootcert=/etc/ca.pem\
         &sslcert=c.pem&sslkey=k.pem&connect_timeout=3&application_name=conv%20oy&options=-c%20geqo%3Doff\
         &target_session_attrs=read-write&channel_binding=require",
    );
    assert_eq!(url.hosts, [tcp("db.example", 6543)]);
    assert_eq!((url.user.as_str(), url.password.as_deref()), ("ann", Some("p@ss/:%")));
    assert_eq!(url.database, "my shop");
    assert_eq!(url.ssl_mode, SslMode::VerifyFull);
    assert_eq!(url.ssl_root_cert, Some("/etc/ca.pem".into()));
    assert_eq!(
        (url.ssl_cert.clone(), url.ssl_key.clone()),
        (Some("c.pem".into()), Some("k.pem".into()))
    );
    assert_eq!(url.connect_timeout, Duration::from_secs(3));
    assert_eq!(url.application_name.as_deref(), Some("conv oy"));
    assert_eq!(url.options.as_deref(), Some("-c geqo=off"));
    assert_eq!(url.target_session_attrs, TargetSessionAttrs::ReadWrite);
    assert_eq!(url.channel_binding, ChannelBinding::Require);
}

#[test]
fn defaults() {
    let url = parse("postgres://ann@db");
    assert_eq!(url.hosts, [tcp("db", 5432)]);
    assert_eq!((url.database.as_str(), url.password.as_deref()), ("ann", None));
    assert_eq!((url.ssl_mode, url.connect_timeout), (SslMode::Prefer, Duration::from_secs(10)));
    let everywhere =
        [unix("/var/run/postgresql", 5432), unix("/tmp", 5432), tcp("localhost", 5432)];
    assert_eq!(parse("postgres://ann@").hosts, everywhere);
    assert_eq!(parse("postgres://ann@/shop").hosts, everywhere);
    let given = [("user", "bob"), ("dbname", "shop"), ("host", "db"), ("port", "7000")];
    let url = DatabaseUrl::parse_with_defaults("postgres://:6000", &given).expect("a URL");
    assert_eq!(url.to_string(), "postgres://bob@db:6000/shop");
    assert!(DatabaseUrl::parse_with_defaults("postgres://", &[("colour", "red")]).is_err());
}

#[test]
fn hosts() {
    let cases = [
        ("postgres://u@h1:1,h2,h3:3", vec![tcp("h1", 1), tcp("h2", 5432), tcp("h3", 3)]),
        ("postgres://u@[::1]:6,[2001:db8::1]", vec![tcp("::1", 6), tcp("2001:db8::1", 5432)]),
        ("postgres://u@%2Fvar%2Frun:7/db", vec![unix("/var/run", 7)]),
        ("postgres://u@/db?host=/tmp/a&port=8", vec![unix("/tmp/a", 8)]),
        ("postgres://u@ignored/db?host=h1,/tmp&port=9", vec![tcp("h1", 9), unix("/tmp", 9)]),
        ("postgres:///db?host=h&user=u", vec![tcp("h", 5432)]),
        ("host=h1,h2 port=1,2 user=u", vec![tcp("h1", 1), tcp("h2", 2)]),
    ];
    for (text, hosts) in cases {
        assert_eq!(parse(text).hosts, hosts, "{text}");
    }
}

#[test]
fn keywords_and_values() {
    let url = parse(r"  host = db  user='an\'n \\' password=p\ q dbname = '' application_name='' ");
    assert_eq!(url.hosts, [tcp("db", 5432)]);
    assert_eq!(url.user, r"an'n \");
    assert_eq!(url.password.as_deref(), Some("p q"));
    assert_eq!(url.database, url.user);
    assert_eq!(url.application_name, None);
    assert_eq!(parse("user=a user=b").user, "b");
}

#[test]
fn ssl() {
    for (text, mode) in [
        ("sslmode=disable", SslMode::Disable),
        ("sslmode=allow", SslMode::Allow),
        ("sslmode=require", SslMode::Require),
        ("sslmode=verify-ca", SslMode::VerifyCa),
        ("ssl=true", SslMode::Require),
        ("sslrootcert=system", SslMode::VerifyFull),
    ] {
        assert_eq!(parse(&format!("postgres://u@h/d?{text}")).ssl_mode, mode, "{text}");
    }
    for text in ["sslmode=maybe", "ssl=1", "sslmode=require&sslrootcert=system"] {
        assert!(
            matches!(
                refuse(&format!("postgres://u@h/d?{text}")),
                ParseUrlError::InvalidValue { .. }
            ),
            "{text}"
        );
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let unknown = refuse("postgres://u@h/d?sslmod=require");
    assert_eq!(unknown, ParseUrlError::UnknownParameter { name: "sslmod".to_owned() });
    assert!(unknown.to_string().contains("\"sslmod\"") && unknown.to_string().contains("sslmode"));
    for (text, error) in [
        ("", ParseUrlError::NotAUrl),
        ("shop", ParseUrlError::NotAUrl),
        ("mysql://u@h/d?a=b", ParseUrlError::NotAUrl),
        ("postgres://h/d", ParseUrlError::NoUser),
        ("postgres://u@h/d?sslmode", ParseUrlError::NoValue),
        ("postgres://u%4@h", ParseUrlError::Encoding { part: "user" }),
        ("postgres://u:%zz@h", ParseUrlError::Encoding { part: "password" }),
        ("postgres://u:%FF@h", ParseUrlError::Encoding { part: "password" }),
        ("postgres://u:%00@h", ParseUrlError::Encoding { part: "password" }),
        ("postgres://u@[::1", ParseUrlError::Ipv6),
        ("postgres://u@[::1]5432", ParseUrlError::Ipv6),
        ("postgres://u@/d?host=a,b,c&port=1,2", ParseUrlError::PortCount { hosts: 3, ports: 2 }),
        ("user=u host", ParseUrlError::NoValue),
        ("user='u", ParseUrlError::OpenQuote),
    ] {
        assert_eq!(refuse(text), error, "{text}");
    }
    for text in [
        "port=0",
        "port=65536",
        "port=x",
        "connect_timeout=0",
        "connect_timeout=-1",
        "target_session_attrs=best",
    ] {
        let name = text.split_once('=').expect("a pair").0;
        let error = refuse(&format!("postgres://u@h/d?{text}"));
        assert!(
            matches!(error, ParseUrlError::InvalidValue { parameter, .. } if parameter == name),
            "{text}: {error}"
        );
    }
}

#[test]
fn the_password_is_never_shown() {
    let url = parse("postgres://ann:s3cret@db/shop?application_name=x");
    assert_eq!(url.to_string(), "postgres://ann@db:5432/shop");
    assert!(!format!("{url:?} {url:#?} {url}").contains("s3cret"), "{url:?}");
    // Passwords that were not encoded, and so are taken for something else.
    for text in [
        "postgres://u:a@s3cret@h/d",
        "postgres://u:s3cret/@h/d",
        "user=u password=a s3cret",
        "postgres://u:s3cret%@h",
    ] {
        let error = refuse(text);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{text}: {error:?}");
    }
    assert_eq!(refuse("postgres://u:a@s3cret@h/d"), ParseUrlError::Host);
}

#[test]
fn another_database() {
    let url = parse("postgres://ann:p@db/shop");
    let other = url.with_database("post/gres");
    assert_eq!(other.to_string(), "postgres://ann@db:5432/post%2Fgres");
    assert_eq!(other.password, url.password);
}

proptest! {
    #[test]
    fn reads_what_it_shows(
        user in "[^\0]{1,8}", password in prop::option::of("[^\0]{1,8}"), database in "[^\0]{1,8}",
        hosts in prop::collection::vec((prop::sample::select(vec!["h", "a.example", "::1", "/tmp/x y"]), 1u16..), 1..4),
        options in prop::option::of("[^\0]{1,8}"), seconds in 1u64..1000,
    ) {
        let url = DatabaseUrl {
            hosts: hosts.iter().flat_map(|(host, port)| read_host(host, *port)).collect(),
            user, password, database, options,
            connect_timeout: Duration::from_secs(seconds),
            ..parse("postgres://u@h?sslmode=require")
        };
        let shown = url.to_url_with_password();
        let read = shown.parse::<DatabaseUrl>();
        prop_assert_eq!(read.as_ref(), Ok(&url), "{}", shown);
    }

    #[test]
    fn no_text_panics(text: String, url in "[a-z0-9@:/?&=%,'\\[\\] \\\\]{0,30}") {
        for text in [text.clone(), url.clone(), format!("postgres://{text}"), format!("postgres://{url}")] {
            if let Ok(url) = text.parse::<DatabaseUrl>() {
                prop_assert!(!url.hosts.is_empty());
            }
        }
    }
}

#[test]
fn a_zone_after_an_address_reads_back() {
    for host in ["fe80::1%eth0", "fe80::1%42x", "::1"] {
        let url = DatabaseUrl::parse_with_defaults(&format!("host={host}"), &[("user", "ann")]);
        let url = url.expect("an address");
        assert_eq!(url.to_url_with_password().parse(), Ok(url), "{host}");
    }
}
