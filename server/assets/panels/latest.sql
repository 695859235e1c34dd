select id, region, status, total, placed_at
from orders
order by id desc
limit 12
