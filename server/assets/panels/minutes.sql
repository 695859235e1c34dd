select date_trunc('minute', placed_at) as minute, count(*) as orders
from orders
group by date_trunc('minute', placed_at)
order by minute desc
limit 31
