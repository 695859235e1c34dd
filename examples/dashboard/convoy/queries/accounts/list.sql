-- Who has most.
-- @param most int4 = 100
select id, owner, branch, balance
from accounts
order by balance desc, id
limit $1
