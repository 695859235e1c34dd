select count(*) as orders, sum(total) as revenue, avg(total) as average
from orders
