-- The tables, and something to see in them. Run at each start: what is there already stays as it is.

create table if not exists accounts (
  id int generated always as identity primary key,
  owner text not null unique,
  branch text not null,
  balance numeric(12, 2) not null check (balance >= 0)
);
-- Sums are kept live from the log alone where it has the row as it was before.
alter table accounts replica identity full;

create table if not exists transfers (
  id int generated always as identity primary key,
  at timestamptz not null default now(),
  sender int not null references accounts on delete cascade,
  receiver int not null references accounts on delete cascade,
  amount numeric(12, 2) not null check (amount > 0)
);
alter table transfers replica identity full;

-- Moves money, in one transaction. Both rows are locked in one order, so that two transfers never wait for each other.
create or replace procedure transfer(sender_name text, receiver_name text, amount numeric) language plpgsql as $$
declare
  sender_id int;
  receiver_id int;
begin
  perform from accounts where owner in (sender_name, receiver_name) order by id for update;
  select id into sender_id from accounts where owner = sender_name;
  select id into receiver_id from accounts where owner = receiver_name;
  if sender_id is null or receiver_id is null or sender_id = receiver_id then
    raise exception 'a transfer takes two owners that have accounts, not % and %', sender_name, receiver_name;
  end if;
  update accounts set balance = balance - amount where id = sender_id;
  update accounts set balance = balance + amount where id = receiver_id;
  insert into transfers (sender, receiver, amount) values (sender_id, receiver_id, amount);
end $$;

-- One transfer between any two, for `\watch`.
create or replace procedure any_transfer() language plpgsql as $$
declare
  names text[] := array(select owner from accounts order by random() limit 2);
begin
  call transfer(names[1], names[2], (1 + floor(random() * 5000))::numeric / 100);
exception when check_violation then
  null; -- The sender has not that much.
end $$;

insert into accounts (owner, branch, balance)
select * from (values
  ('Ada', 'London', 2400.00), ('Charles', 'London', 1310.50), ('Mary', 'London', 860.25),
  ('Grace', 'New York', 1985.00), ('Jean', 'New York', 720.80), ('Kay', 'New York', 1540.10),
  ('Edsger', 'Amsterdam', 995.75), ('Adriaan', 'Amsterdam', 410.00),
  ('Konrad', 'Berlin', 1675.40), ('Emmy', 'Berlin', 2102.20)
) as first (owner, branch, balance)
where not exists (select from accounts);
