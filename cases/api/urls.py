"""URLs of the API. Those of the upstream demo have no prefix; resources have a version."""

from django.urls import include, path

from . import account, analyses, cases, pages, predict

resources = (
    [
        path("cases", cases.Cases.as_view(), name="cases"),
        path("cases/<uuid:pk>", cases.CaseDetail.as_view(), name="case"),
        path("cases/<uuid:pk>/result", cases.CaseResult.as_view(), name="case-result"),
        path("cases/<uuid:pk>/report", cases.CaseReport.as_view(), name="case-report"),
        path("cases/<uuid:pk>/analyses", cases.CaseAnalyses.as_view(), name="case-analyses"),
        path("cases/<uuid:pk>/slides", cases.CaseSlides.as_view(), name="case-slides"),
        path("cases/<uuid:pk>/reviews", cases.CaseReviews.as_view(), name="case-reviews"),
        path("slides/<uuid:pk>", cases.SlideDetail.as_view(), name="slide"),
        path("slides/<uuid:pk>/image", cases.SlideImage.as_view(), name="slide-image"),
        path("slides/<uuid:pk>/analyses", analyses.SlideAnalyses.as_view(), name="slide-analyses"),
        path("analyses", analyses.Analyses.as_view(), name="analyses"),
        path("analyses/<uuid:pk>", analyses.AnalysisDetail.as_view(), name="analysis"),
        path("analyses/<uuid:pk>/result", analyses.AnalysisResult.as_view(), name="analysis-result"),
        path("analyses/<uuid:pk>/patches", analyses.AnalysisPatches.as_view(), name="analysis-patches"),
        path("analyses/<uuid:pk>/map", analyses.AnalysisMap.as_view(), name="analysis-map"),
        path("models", analyses.Models.as_view(), name="models"),
        path("models/<uuid:pk>", analyses.ModelDetail.as_view(), name="model"),
        path("me", account.Me.as_view(), name="me"),
        path("signed-in", account.SignedIn.as_view(), name="signed-in"),
        path("tokens", account.Tokens.as_view(), name="tokens"),
        path("tokens/<uuid:pk>", account.TokenDetail.as_view(), name="token"),
        path("sign-in", account.SignIn.as_view(), name="sign-in"),
    ],
    "api",
)

urlpatterns = [
    path("predict/single", predict.Single.as_view(), name="predict-single"),
    path("predict/single/stream", predict.SingleStream.as_view(), name="predict-single-stream"),
    path("predict/folder", predict.Folder.as_view(), name="predict-folder"),
    path("api", pages.Index.as_view(), name="api-index"),
    path("api/v1/", include(resources)),
    path("schema", pages.Document.as_view(), name="schema"),
    path("docs", pages.Docs.as_view(), name="docs"),
]
