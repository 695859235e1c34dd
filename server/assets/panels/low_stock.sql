select id, name, stock, reorder_level
from products
where stock < 10
order by stock, id
limit 10
