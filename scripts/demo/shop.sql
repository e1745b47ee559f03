-- A shop as it may have grown: its own tables, an older one that is still read, a view, an enum.
CREATE TYPE order_status AS ENUM ('placed', 'paid', 'shipped', 'returned');

CREATE TABLE customers (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email       text NOT NULL UNIQUE,
    name        varchar(120) NOT NULL,
    card_digits varchar(4),
    inserted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE products (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku   varchar(40) NOT NULL UNIQUE,
    title text NOT NULL,
    price numeric(10, 2) NOT NULL
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    product_id  bigint NOT NULL REFERENCES products,
    quantity    integer NOT NULL CHECK (quantity > 0),
    note        varchar(400),
    status      order_status NOT NULL DEFAULT 'placed',
    inserted_at timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW revenue AS
SELECT p.sku, sum(o.quantity * p.price) AS total
FROM orders o JOIN products p ON p.id = o.product_id
GROUP BY p.sku;

INSERT INTO customers (email, name, card_digits)
SELECT format('customer%s@example.com', n), format('Customer %s', n), lpad((n * 37 % 10000)::text, 4, '0')
FROM generate_series(1, 500) n;

INSERT INTO products (sku, title, price)
SELECT format('SKU-%s', n), format('Product %s', n), (n * 7 % 90) + 0.95
FROM generate_series(1, 50) n;

INSERT INTO orders (customer_id, product_id, quantity, note, status)
SELECT n % 500 + 1, n % 50 + 1, n % 5 + 1, CASE WHEN n % 9 = 0 THEN 'ring twice' END,
       (enum_range(NULL::order_status))[n % 4 + 1]
FROM generate_series(1, 5000) n;
