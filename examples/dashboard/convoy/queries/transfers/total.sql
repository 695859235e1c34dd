-- How much has been moved.
select count(*) as transfers, coalesce(sum(amount), 0) as amount
from transfers
