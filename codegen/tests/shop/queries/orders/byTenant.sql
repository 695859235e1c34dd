-- @param tenant int4
select id, total
from orders
where tenant = $1
order by id
