//! The shop that the demo is about: its tables, and a past for them that looks as if the writer had been at work
//! for a while.
//!
//! Everything is made by the database itself, in sets, within about a second. Leaves to `writer.rs` what happens next.

use crate::error::ServerError;
use convoy_postgres::launcher::{Locale, PrivatePostgres};
use convoy_postgres::{Connection, SessionOptions, connect};
use convoy_types::DatabaseUrl;
use std::f64::consts::TAU;

/// The database's name.
pub(crate) const DATABASE: &str = "shop";
/// Who owns the shop, writes to it, and keeps its queries live: no superuser.
pub(crate) const OWNER: &str = "convoy";
/// How many customers there are.
pub(crate) const CUSTOMERS: i64 = 40_000;
/// How many products there are.
pub(crate) const PRODUCTS: i64 = 1_000;
/// The lines that an order has at most.
pub(crate) const LINES_MAX: i64 = 5;
/// Commits a second unless asked for otherwise.
pub(crate) const RATE_DEFAULT: u32 = 20;
/// Of what is written, this share is new orders, on the average over [`TIDES`].
pub(crate) const ORDER_SHARE: f64 = 0.30;
/// Business comes and goes in waves: their length in seconds, and their height about the average.
const TIDES: [(u32, f64); 2] = [(480, 0.20), (1130, 0.16)];

/// How far back the orders go, in minutes, at least; the dashboard shows thirty.
const PAST_MINUTES_MIN: f64 = 40.0;
/// Orders that the past has at least: with their lines, that makes some 100,000 rows whatever the rate.
const PAST_ORDERS_MIN: f64 = 14_400.0;
/// Bounds of the past's orders a second.
const ORDERS_PER_SECOND: std::ops::RangeInclusive<f64> = 1.0..=10.0;

/// The tables; what is not needed to fill them comes after they are filled.
const TABLES: &str = "
    CREATE TABLE customers (
        id bigint GENERATED ALWAYS AS IDENTITY,
        name text NOT NULL,
        email text NOT NULL,
        region text NOT NULL,
        created_at timestamptz NOT NULL
    );
    CREATE TABLE products (
        id bigint GENERATED ALWAYS AS IDENTITY,
        name text NOT NULL,
        category text NOT NULL,
        price numeric(10,2) NOT NULL,
        stock int NOT NULL,
        reorder_level int NOT NULL
    );
    -- Room on each page, so that a change of status stays on it.
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY,
        customer_id bigint NOT NULL,
        region text NOT NULL,
        status text NOT NULL,
        total numeric(12,2) NOT NULL,
        placed_at timestamptz NOT NULL
    ) WITH (fillfactor = 85);
    CREATE TABLE order_lines (
        order_id bigint,
        line int,
        product_id bigint,
        quantity int NOT NULL,
        unit_price numeric(10,2) NOT NULL
    );
";

/// Old rows go into the WAL, so that a change of status is known to leave the revenue alone.
const CONSTRAINTS: &str = "
    ALTER TABLE customers ADD PRIMARY KEY (id);
    ALTER TABLE products ADD PRIMARY KEY (id);
    ALTER TABLE orders ADD PRIMARY KEY (id),
        ADD CHECK (status IN ('new', 'paid', 'packed', 'shipped', 'cancelled')),
        ADD FOREIGN KEY (customer_id) REFERENCES customers;
    ALTER TABLE order_lines ADD PRIMARY KEY (order_id, line),
        ADD FOREIGN KEY (order_id) REFERENCES orders,
        ADD FOREIGN KEY (product_id) REFERENCES products;
    CREATE INDEX ON products (stock, id);
    CREATE INDEX ON orders (customer_id);
    CREATE INDEX ON orders (region);
    CREATE INDEX ON order_lines (product_id);
    ALTER TABLE customers REPLICA IDENTITY FULL;
    ALTER TABLE products REPLICA IDENTITY FULL;
    ALTER TABLE orders REPLICA IDENTITY FULL;
    ALTER TABLE order_lines REPLICA IDENTITY FULL;
";

/// Region, upper end of its share, first names, last names.
const NAMES: &str = "
    ('Asia', 0.32,
     '{Aiko,Arjun,Chen,Dewi,Farah,Haruto,Jia,Kavya,Linh,Mei,Minh,Noor,Priya,Ravi,Siti,Yuna}'::text[],
     '{Ahmed,Chandra,Fujita,Gupta,Ito,Kaur,Kim,Lim,Nguyen,Park,Reyes,Santoso,Singh,Tanaka,Wang,Zhou}'::text[]),
    ('Europe', 0.59,
     '{Anna,Bruno,Clara,David,Elena,Felix,Greta,Hugo,Ines,Jonas,Katya,Luca,Marta,Nils,Oscar,Zofia}',
     '{Andersen,Bauer,Costa,Dubois,Eriksson,Fischer,Garcia,Horvat,Jansen,Kowalski,Moreau,Novak,Rossi,Silva,Walsh,Weber}'),
    ('Americas', 0.83,
     '{Ana,Ben,Camila,Diego,Emma,Gabriel,Hannah,Isabel,Jack,Lucia,Mateo,Nora,Owen,Rosa,Sam,Valeria}',
     '{Alvarez,Brooks,Castillo,Diaz,Ellis,Flores,Gomez,Hayes,Lopez,Mitchell,Nelson,Ortiz,Parker,Rivera,Torres,Young}'),
    ('Africa', 0.93,
     '{Abena,Amara,Chidi,Dalia,Efua,Fatou,Hassan,Imani,Jabari,Kofi,Lindiwe,Musa,Nia,Sefu,Thandi,Zola}',
     '{Abebe,Adeyemi,Banda,Diallo,Eze,Farouk,Keita,Kamau,Mensah,Moyo,Ndiaye,Nkosi,Okafor,Otieno,Sow,Traore}'),
    ('Oceania', 1.00,
     '{Aroha,Billie,Callum,Darcy,Eli,Finn,Hemi,Isla,Kaia,Lani,Mia,Nikau,Ruby,Sefa,Tane,Willow}',
     '{Brown,Campbell,Fraser,Hughes,Kingi,Lee,Martin,Ngata,Paki,Robinson,Scott,Tamihana,Tui,Walker,White,Wilson}')
";

/// Category, what is in it, the highest price.
const GOODS: &str = "
    ('Kitchen', '{kettle,teapot,carafe,mug,bowl,tray,pan,ladle,grinder,bread bin}'::text[], 90),
    ('Home', '{lamp,vase,mirror,clock,shelf,basket,candle,frame,rug,stool}', 180),
    ('Bedroom', '{blanket,pillow,duvet,throw,robe,slippers,night light,bedspread,hanger,chest}', 160),
    ('Garden', '{planter,watering can,trowel,bench,lantern,bird house,rake,hose reel,parasol,gloves}', 140),
    ('Desk', '{notebook,pen,stapler,organiser,lamp arm,desk mat,bookend,ruler,folder,pencil case}', 60),
    ('Travel', '{backpack,suitcase,pouch,bottle,umbrella,scarf,wallet,tote,hat,passport case}', 220)
";

const STYLES: &str = "'{Oak,Linen,Copper,Slate,Walnut,Cobalt,Amber,Birch,Indigo,Ivory,Juniper,Saffron,\
                      Terracotta,Marble,Denim,Coral,Olive,Brass}'::text[]";

/// Makes the database, its owner and the shop, and returns where it is.
///
/// # Errors
/// What the database says of it.
pub(crate) async fn open(
    postgres: &PrivatePostgres,
    rate: u32,
) -> Result<DatabaseUrl, ServerError> {
    postgres.create_database(DATABASE, Locale::C).await?;
    let administrator = read_url(&postgres.url(DATABASE))?;
    let session = session("convoy demo");
    // LOGIN, REPLICATION and ownership of what is published: what Convoy needs of a database, and all that it has here.
    let rights = format!(
        "CREATE ROLE {OWNER} LOGIN REPLICATION; ALTER DATABASE {DATABASE} OWNER TO {OWNER}"
    );
    connect(&administrator, &session).await?.client().batch_execute(&rights).await?;
    let owner = DatabaseUrl { user: OWNER.to_owned(), ..administrator };
    fill(&connect(&owner, &session).await?, rate).await?;
    Ok(owner)
}

/// Returns what sessions of the demo have set.
pub(crate) fn session(application_name: &str) -> SessionOptions {
    SessionOptions { application_name: application_name.to_owned(), ..SessionOptions::default() }
}

/// Returns how many rows the shop has, by the statistics that [`open`] gathered.
pub(crate) async fn rows(connection: &Connection) -> Result<i64, ServerError> {
    let sql = "SELECT sum(reltuples)::bigint FROM pg_catalog.pg_class \
               WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
    Ok(connection.client().query_one(sql, &[]).await?.try_get(0)?)
}

fn read_url(text: &str) -> Result<DatabaseUrl, ServerError> {
    // Without defaults: what the environment says is about somebody's database, and this one is ours.
    text.parse()
        .map_err(|error: convoy_types::ParseUrlError| ServerError::Misused(error.to_string()))
}

async fn fill(connection: &Connection, rate: u32) -> Result<(), ServerError> {
    // Where nobody writes from now on, the past is as at the default rate.
    let past_rate = if rate == 0 { RATE_DEFAULT } else { rate };
    let orders_per_second = (f64::from(past_rate) * ORDER_SHARE)
        .clamp(*ORDERS_PER_SECOND.start(), *ORDERS_PER_SECOND.end());
    let client = connection.client();
    client.batch_execute("BEGIN").await?;
    client.batch_execute(TABLES).await?;
    client.batch_execute(&customers()).await?;
    client.batch_execute(&products()).await?;
    client.batch_execute(&orders(orders_per_second)).await?;
    client.batch_execute(CONSTRAINTS).await?;
    client.batch_execute("COMMIT").await?;
    // Also marks all pages as visible to all, which spares readers a second look.
    client.batch_execute("VACUUM (ANALYZE) customers, products, orders, order_lines").await?;
    Ok(())
}

/// Returns how business is at this time, in seconds, against the average.
pub(crate) fn tide(seconds: f64) -> f64 {
    let wave = |(length, height)| height * (seconds / f64::from(length) * TAU).sin();
    1.0 + TIDES.into_iter().map(wave).sum::<f64>()
}

/// The same as an expression.
fn tide_sql(seconds: &str) -> String {
    let wave = |(length, height)| format!(" + {height} * sin({seconds} / {length} * 2 * pi())");
    format!("(1{})", TIDES.map(wave).concat())
}

fn customers() -> String {
    format!(
        "SELECT setseed(0.25);
         INSERT INTO customers (name, email, region, created_at)
         SELECT first || ' ' || last, lower(first || '.' || last) || n || '@example.com', region,
                now() - a * interval '3 years'
         FROM (
             SELECT n, a, names.region,
                    firsts[1 + floor(b * cardinality(firsts))::int] AS first,
                    lasts[1 + floor(c * cardinality(lasts))::int] AS last
             FROM (SELECT n, random() AS r, random() AS a, random() AS b, random() AS c
                   FROM generate_series(1, {CUSTOMERS}) AS n) AS dice
             JOIN (SELECT region, upto, coalesce(lag(upto) OVER (ORDER BY upto), 0) AS starting, firsts, lasts
                   FROM (VALUES {NAMES}) AS v (region, upto, firsts, lasts)) AS names
               ON r >= starting AND r < upto
         ) AS people"
    )
}

/// A few are low already. The dice are thrown before they are sorted by: Postgres takes a `random()` that is sorted by
/// and another one in the same list for one and the same.
fn products() -> String {
    format!(
        "INSERT INTO products (name, category, price, stock, reorder_level)
         SELECT style || ' ' || noun, category,
                (floor(4 + a * a * (dearest - 4)) + (ARRAY[0.00, 0.50, 0.90, 0.95])[1 + floor(b * 4)::int])::numeric(10,2),
                CASE WHEN c < 0.015 THEN 1 + floor(d * 9)::int ELSE 20 + floor(d * 230)::int END,
                5 + floor(b * 6)::int * 2
         FROM (
             SELECT style, noun, category, dearest,
                    random() AS a, random() AS b, random() AS c, random() AS d, random() AS place
             FROM (VALUES {GOODS}) AS goods (category, nouns, dearest),
                  unnest(nouns) AS noun, unnest({STYLES}) AS style
         ) AS shelf
         ORDER BY place LIMIT {PRODUCTS}"
    )
}

/// Orders are numbered in the order in which they were placed, and those placed longer ago are further on their way.
fn orders(orders_per_second: f64) -> String {
    let minutes = (PAST_ORDERS_MIN / orders_per_second / 60.0).max(PAST_MINUTES_MIN).ceil();
    let tide = tide_sql("extract(epoch FROM second)::float8");
    format!(
        "CREATE TEMP TABLE draft ON COMMIT DROP AS
         SELECT row_number() OVER (ORDER BY placed_at) AS id, placed_at,
                1 + floor(random() * {CUSTOMERS})::bigint AS customer_id, random() AS fate
         FROM (
             SELECT second + random() * interval '1 second' AS placed_at
             FROM generate_series(now() - interval '{minutes} minutes', now() - interval '1 second', '1 second')
                      AS second,
                  generate_series(1, floor(random() + {orders_per_second} * (0.3 + 1.4 * random()) * {tide})::int)
         ) AS moments;

         -- The order's number keeps the dice from being thrown once for all orders.
         CREATE TEMP TABLE draft_lines ON COMMIT DROP AS
         SELECT order_id, line, product_id, quantity, price
         FROM (
             SELECT draft.id AS order_id, line,
                    1 + floor(power(random(), 2) * {PRODUCTS})::bigint AS product_id,
                    1 + floor(power(random(), 2) * 3)::int AS quantity
             FROM draft, generate_series(1, 1 + floor(random() * {LINES_MAX} + 0 * draft.id)::int) AS line
         ) AS wishes
         JOIN products ON products.id = product_id;

         INSERT INTO orders (id, customer_id, region, status, total, placed_at) OVERRIDING SYSTEM VALUE
         SELECT draft.id, customer_id, region,
                CASE WHEN fate < 0.04 AND placed_at < now() - interval '20 seconds' THEN 'cancelled'
                     WHEN placed_at < now() - interval '40 seconds' - fate * interval '50 seconds' THEN 'shipped'
                     WHEN placed_at < now() - interval '20 seconds' - fate * interval '20 seconds' THEN 'packed'
                     WHEN placed_at < now() - fate * interval '15 seconds' THEN 'paid'
                     ELSE 'new' END,
                sums.total, placed_at
         FROM draft
         JOIN customers ON customers.id = customer_id
         JOIN (SELECT order_id, sum(quantity * price) AS total FROM draft_lines GROUP BY order_id) AS sums
           ON sums.order_id = draft.id
         ORDER BY draft.id;

         INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price)
         SELECT order_id, line, product_id, quantity, price FROM draft_lines ORDER BY order_id, line;

         SELECT setval(pg_get_serial_sequence('orders', 'id'), (SELECT max(id) FROM orders))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_postgres::testing;

    #[tokio::test]
    async fn the_shop_has_a_past_up_to_now() {
        let server = PrivatePostgres::start(testing::options()).await.expect("a server");
        let url = open(&server, 20).await.expect("a shop");
        let connection = connect(&url, &session("test")).await.expect("a connection");
        let rows = rows(&connection).await.expect("statistics");
        assert!((80_000..140_000).contains(&rows), "{rows} rows");
        let holds = [
            "SELECT count(DISTINCT region) = 5 FROM customers",
            "SELECT count(*) = 1000 AND count(DISTINCT name) = 1000 FROM products",
            "SELECT count(*) BETWEEN 5 AND 40 AND count(DISTINCT stock) > 2 FROM products WHERE stock < 10",
            "SELECT count(DISTINCT reorder_level) = 6 AND count(DISTINCT price) > 100 FROM products",
            "SELECT max(placed_at) > now() - interval '1 minute' AND max(placed_at) <= now() FROM orders",
            "SELECT count(DISTINCT date_trunc('minute', placed_at)) > 30 FROM orders",
            "SELECT bool_and(total = lines) FROM orders JOIN (SELECT order_id, sum(quantity * unit_price) AS lines \
             FROM order_lines GROUP BY 1) AS sums ON order_id = id",
            "SELECT count(DISTINCT status) = 5 FROM orders",
            "SELECT NOT rolsuper FROM pg_roles WHERE rolname = current_user",
        ];
        for sql in holds {
            let holds: bool = connection.client().query_one(sql, &[]).await.expect(sql).get(0);
            assert!(holds, "{sql}");
        }
        let insert = "INSERT INTO orders (customer_id, region, status, total, placed_at) \
                      VALUES (1, 'Asia', 'new', 1, now()) RETURNING id > 1000";
        assert!(
            connection
                .client()
                .query_one(insert, &[])
                .await
                .expect("the next number")
                .get::<_, bool>(0)
        );
        drop(connection);
        server.stop().await.expect("stopped");
    }
}
