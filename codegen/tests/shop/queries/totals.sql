-- @notnull orders
select count(*) as orders from orders
