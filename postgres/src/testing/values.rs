//! Values of every type that Convoy reads, as a server makes them: from edges and at random.

use convoy_types::PgType;

/// Makes the types that a database has not from the beginning.
pub const TYPES: &str = "create type mood as enum ('sad', 'ok ay', 'q\"\\', 'ä'); create domain any_name as text; \
    create domain price as numeric(10, 2) check (value < 1e8)";

/// How the server makes values of a type: one of the edges, or the expression's.
pub struct Law {
    /// What Convoy calls the type; a domain's is its base type's.
    pub ty: PgType,
    /// What the server calls it.
    pub sql_type: &'static str,
    /// Texts of values that are worth a look.
    pub edges: &'static [&'static str],
    random: &'static str,
}

/// Returns the laws of all types that Convoy reads.
pub fn laws() -> Vec<Law> {
    let law = |ty, sql_type, edges, random| Law { ty, sql_type, edges, random };
    let text = "(select coalesce(string_agg(case floor(random() * 4) when 0 then chr(1 + floor(random() * 126)::int) \
                when 1 then chr(128 + floor(random() * 2000)::int) when 2 then 'a' else 'A' end, ''), '') \
                from generate_series(1, floor(random() * 6)::int))";
    let texts: &[&str] = &[
        "",
        " ",
        "a",
        "a ",
        "ab",
        "A",
        "ä",
        "💧",
        "NULL",
        "null",
        "\"",
        "\\",
        "{",
        "}",
        ",",
        "\n",
        "\u{1}",
        "\u{7f}",
        "\u{2028}",
        "\u{feff}",
        "\u{ffff}",
        "\u{10000}",
    ];
    let date = "date '2000-01-01' + ((random() - 0.5) * 4e6)::int";
    let timestamp = "timestamp '2000-01-01' + (random() - 0.5) * 4e6 * interval '1 day'";
    vec![
        law(PgType::Bool, "bool", &["t", "f"], "random() < 0.5"),
        law(
            PgType::Int2,
            "int2",
            &["-32768", "-1", "0", "1", "32767"],
            "((random() - 0.5) * 65534)::int2",
        ),
        law(
            PgType::Int4,
            "int4",
            &["-2147483648", "-1", "0", "1", "2147483647"],
            "((random() - 0.5) * 4e9)::int4",
        ),
        law(
            PgType::Int8,
            "int8",
            &["-9223372036854775808", "-1", "0", "1", "9223372036854775807"],
            "((random() - 0.5) * 1.8e19)::int8",
        ),
        law(
            PgType::Numeric,
            "numeric",
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "0.00",
                "1",
                "1.0",
                "1.00",
                "10",
                "-1",
                "-1.5",
                "0.1",
                "1e100",
                "-1e-100",
                // Of a thousand digits, on either side of the point.
                "1e1000",
                "-123456789e992",
                "1e-1000",
            ],
            "round(((random() - 0.5) * 10 ^ (random() * 20 - 5))::numeric, floor(random() * 12)::int)",
        ),
        law(
            PgType::Float8,
            "float8",
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "-0",
                "5e-324",
                "-5e-324",
                "1e15",
                "1e20",
                "1e-7",
                "1.7976931348623157e308",
            ],
            "(random() - 0.5) * 10 ^ (random() * 600 - 300)",
        ),
        law(
            PgType::Float4,
            "float4",
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "-0",
                "0.1",
                "1e-45",
                "1e6",
                "16777216",
                "3.4028235e38",
            ],
            "((random() - 0.5) * 10 ^ (random() * 70 - 35))::float4",
        ),
        law(PgType::Text, "text", texts, text),
        law(PgType::Varchar, "varchar", texts, text),
        law(PgType::Bpchar, "char(9)", texts, text),
        // Domains are their base types, to whoever reads them.
        law(PgType::Text, "any_name", texts, text),
        law(PgType::Numeric, "price", &["0", "1.5", "1.50", "-2", "99999999.99"], "random() * 1e4"),
        law(PgType::Enum, "mood", &["sad", "ok ay", "q\"\\", "ä"], "enum_first(null::mood)"),
        law(
            PgType::Uuid,
            "uuid",
            &["00000000-0000-0000-0000-000000000000", "80000000-0000-0000-0000-000000000000"],
            "md5(random()::text)::uuid",
        ),
        law(
            PgType::Bytea,
            "bytea",
            &["", "\\x00", "\\x0000", "\\x00ff", "\\x01", "\\xff"],
            "decode(md5(random()::text), 'hex')",
        ),
        law(
            PgType::Date,
            "date",
            &[
                "infinity",
                "-infinity",
                "4714-11-24 BC",
                "0001-12-31 BC",
                "0001-01-01",
                "2000-02-29",
                "5874897-12-31",
            ],
            date,
        ),
        law(
            PgType::Time,
            "time",
            &["00:00:00", "00:00:00.000001", "12:00:00.5", "23:59:59.999999", "24:00:00"],
            "(time '00:00' + random() * interval '1 day')::time",
        ),
        law(
            PgType::Timestamp,
            "timestamp",
            &[
                "infinity",
                "-infinity",
                "4714-11-24 00:00 BC",
                "0001-12-31 23:59:59.999999 BC",
                "294276-12-31 23:59:59.999999",
            ],
            timestamp,
        ),
        law(
            PgType::TimestampTz,
            "timestamptz",
            &[
                "infinity",
                "-infinity",
                "4700-01-01 00:00+0 BC",
                "0001-12-31 23:59:59.5+0 BC",
                "1880-01-01 00:00+0",
            ],
            timestamp,
        ),
        law(
            PgType::Interval,
            "interval",
            &[
                "0",
                "1 mon",
                "30 days",
                "720:00:00",
                "1 year",
                "360 days",
                "-1 mon +30 days",
                "1 day -00:00:00.5",
            ],
            "make_interval(months => ((random() - 0.5) * 4e9)::int, days => ((random() - 0.5) * 4e9)::int, \
             secs => (random() - 0.5) * 1e12)",
        ),
        law(
            PgType::Jsonb,
            "jsonb",
            &[
                "null",
                "1.50",
                "1e3",
                "\"a\\\\\\u0001\"",
                "{}",
                "[]",
                "{\"b\": [1, \"x, }\"], \"a\": null}",
            ],
            "to_jsonb(random())",
        ),
    ]
}

impl Law {
    /// Returns the expression that makes one value.
    pub fn value(&self) -> String {
        let edges: Vec<_> = self.edges.iter().map(|edge| format!("'{edge}'")).collect();
        let (edges, count, ty) = (edges.join(", "), self.edges.len(), self.sql_type);
        format!(
            "case when random() < 0.6 then (array[{edges}]::{ty}[])[1 + floor(random() * {count})::int] \
             else ({})::{ty} end",
            self.random
        )
    }
}
