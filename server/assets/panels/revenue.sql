select region, sum(total) as revenue, count(*) as orders
from orders
group by region
order by region
