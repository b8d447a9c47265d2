"""For the tests of applications that embed this package."""

from .embedding import Cookie, EmbeddingFault, check_embedding, local_provider, signed_in

__all__ = ["Cookie", "EmbeddingFault", "check_embedding", "local_provider", "signed_in"]
