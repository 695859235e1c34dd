-- The same money by branch: the parts of accounts.total.
select branch, count(*) as accounts, sum(balance) as balance
from accounts
group by branch
order by branch
