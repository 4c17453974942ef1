"""Run `make down`: stop the processes left by a crashed demo, celery-demo or up."""

from demo.local_airflow import stop_leftovers
from demo.places import airflow_home, celery_home

if __name__ == "__main__":
    for home in (airflow_home(), celery_home() / ".airflow"):
        print(f"{stop_leftovers(home)} processes of {home} stopped")
