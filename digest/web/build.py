"""The pages for these services: names what the application needs."""

from __future__ import annotations

from starlette.applications import Starlette

from digest.services import Services
from digest.storage import migrating
from digest.web import WebSite
from digest.web.app import create_app


def build(services: Services) -> Starlette:
    """The application; TemplateError."""
    settings = services.settings
    return create_app(
        engine=services.engine,
        templates=settings.templates_dir,
        site=WebSite(
            name=settings.site_name,
            tagline=settings.tagline,
            base_url=settings.base_url,
            reply_to=settings.reply_to or settings.sender_address,
            imprint_url=settings.imprint_url,
            privacy_contact=settings.privacy_contact,
            locale=settings.locale,
            sample=services.site.sample,
        ),
        secrets=services.secrets,
        clock=services.clock,
        inbox=services.inbox,
        unsubscribe=services.unsubscribe,
        ready=lambda: migrating.check(services.engine),
    )
